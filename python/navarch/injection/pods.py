"""One pod: whether it gets a proxy, and the pod with it.

Source: Istio's pkg/kube/inject (inject.go injectRequired, RunTemplate; webhook.go injectPod).
"""

from __future__ import annotations

import dataclasses
import json
import types
from typing import TYPE_CHECKING, Any, Final

import yaml

from navarch.crds.schema import canonical, faults, proxy_config, reading
from navarch.injection import (
    gateway,
    labels,
    merging,
    metrics,
    owner,
    patching,
    probes,
    proxy_container,
    shape,
    sidecar,
    wishes,
)
from navarch.injection.inputs import Inputs, MeshView, Pod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from navarch.injection.settings import Settings

AUTO_IMAGE: Final = "auto"
"""The image of a container whose owner leaves it to the injector."""
_BUILT_IN: Final[Mapping[str, Callable[[Inputs], Pod]]] = types.MappingProxyType(
    {"sidecar": sidecar.build_sidecar, "gateway": gateway.build_gateway}
)
_LISTS: Final = ("containers", "initContainers")
_CAPTURE: Final = (sidecar.INIT, sidecar.VALIDATION)
_NO_DNS: Final = frozenset({"", "ClusterFirst", "ClusterFirstWithHostNet"})


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A pod to inject.

    Attributes:
        pod: As it was written; it is not changed.
        namespace: Where it will live.
        owner: The workload that it is made from; None to find it by the pod's references.
        own_config: The ProxyConfig objects that hold for it, merged, in JSON names.
        environment: Variables from the webhook's address.
    """

    pod: Mapping[str, Any]
    namespace: str
    owner: owner.Owner | None = None
    own_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Injected:
    """What became of a pod.

    Attributes:
        pod: The pod with its proxy, or as it was.
        skipped: Why it got none; "" if it got one.
        warnings: What its owner should know.
    """

    pod: Pod
    skipped: str = ""
    warnings: tuple[str, ...] = ()

    def patch(self, before: Mapping[str, Any]) -> list[patching.Operation]:
        """Return the JSON patch from the pod as it was."""
        return patching.diff_objects(before, self.pod)


def inject(request: Request, settings: Settings, mesh: MeshView) -> Injected:
    """Put the proxy into a pod.

    Raises:
        wishes.InjectionError: The pod asks for what can't be.
    """
    pod: Pod = merging.copy_json(dict(request.pod))
    shape.check_pod(pod)
    skipped = find_refusal(pod, request.namespace, settings)
    if skipped:
        return Injected(pod, skipped)
    annotations = pod["metadata"].get("annotations") or {}
    wishes.check_annotations(annotations)
    own = _strip(pod, mesh)
    names = _template_names(annotations, settings)
    inputs = Inputs(
        pod=own,
        owner=request.owner or owner.find_owner(pod, request.namespace),
        settings=settings,
        mesh=mesh,
        proxy_config=_effective_config(annotations, request.own_config, mesh),
        environment=_environment(request, pod, settings.cluster.network),
        is_native=_is_native(annotations, settings),
    )
    template: Pod = {"metadata": {}, "spec": {}}
    for name in names:
        template = merging.merge(template, _build_template(name, inputs))
    made = _apply(pod, own, template, inputs)
    made = _finish(made, template, inputs)
    dns = (pod.get("spec") or {}).get("dnsPolicy", "")
    warning = f"its dnsPolicy is {dns}: the proxy may not find the control plane by name"
    return Injected(made, warnings=() if dns in _NO_DNS else (warning,))


def find_refusal(pod: Mapping[str, Any], namespace: str, settings: Settings) -> str:
    """Say why a pod that was handed in gets no proxy; "" if it gets one.

    The pod's own word comes first, then the selectors, of which never wins over always, then the policy.
    """
    if pod["spec"].get("hostNetwork"):
        return "it uses the host's network"
    if namespace in settings.ignored_namespaces:
        return f"no pod in {namespace} gets one"
    metadata = pod["metadata"]
    own = metadata.get("labels") or {}
    word = own.get(labels.POD_LABEL) or (metadata.get("annotations") or {}).get(labels.POD_LABEL)
    if word:
        return "" if labels.read_wish(word) else f"it says {labels.POD_LABEL}: {word}"
    if _matches(settings.never_inject_selector, own):
        return "neverInjectSelector matches it"
    if _matches(settings.always_inject_selector, own) or settings.policy == "enabled":
        return ""
    return "the policy is disabled, and it does not ask for a proxy"


def _matches(selectors: Iterable[labels.Selector], own: Mapping[str, str]) -> bool:
    return any(each.matches(own) for each in selectors if not each.is_empty)


def _template_names(annotations: Mapping[str, str], settings: Settings) -> list[str]:
    told = annotations.get(wishes.TEMPLATES)
    names = [each.strip() for each in told.split(",")] if told else settings.default_templates
    resolved = [each for name in names for each in settings.aliases.get(name, (name,))]
    for name in resolved:
        if name not in _BUILT_IN and name not in settings.templates:
            known = ", ".join(sorted({*_BUILT_IN, *settings.templates, *settings.aliases}))
            message = f"annotation {wishes.TEMPLATES} names {name!r}; there are {known}"
            raise wishes.InjectionError(message)
    return resolved


def _build_template(name: str, inputs: Inputs) -> Pod:
    build = _BUILT_IN.get(name)
    made = build(inputs) if build is not None else {}
    over = inputs.settings.templates.get(name)
    if over is None:
        return made
    return merging.merge(made, _as_native(over) if inputs.is_native else over)


def _as_native(pod: Mapping[str, Any]) -> Pod:
    """Move what is said of the proxy among the containers to where the proxy is."""
    spec = dict(pod.get("spec") or {})
    mine = [each for each in spec.get("containers") or () if _is_proxy(each)]
    if not mine:
        return dict(pod)
    spec["containers"] = [each for each in spec["containers"] if not _is_proxy(each)]
    spec["initContainers"] = [*(spec.get("initContainers") or ()), *mine]
    return {**pod, "spec": spec}


def _is_proxy(container: Mapping[str, Any]) -> bool:
    return container.get("name") == proxy_container.NAME


def _is_native(annotations: Mapping[str, str], settings: Settings) -> bool:
    wish = wishes.read_bool(annotations.get(wishes.NATIVE, ""))
    names = _template_names(annotations, settings)
    return "sidecar" in names and (settings.native_sidecars if wish is None else wish)


def _environment(request: Request, pod: Pod, network: str) -> dict[str, str]:
    """Return the variables that are not the template's: the address's, and what an earlier injection found out.

    The network is the pod's own label's, else the address's, else that of the settings.
    """
    made = ({"ISTIO_META_NETWORK": network} if network else {}) | dict(request.environment)
    metadata, spec = pod["metadata"], pod["spec"]
    told = (metadata.get("labels") or {}).get("topology.istio.io/network")
    if told:
        made["ISTIO_META_NETWORK"] = told
    if wishes.STATUS in (metadata.get("annotations") or {}):
        proxies = [c for field in _LISTS for c in spec.get(field) or () if _is_proxy(c)]
        for each in (each for c in proxies for each in c.get("env") or ()):
            if each.get("name") in (probes.PROBERS, metrics.SCRAPING):
                made[each["name"]] = str(each.get("value", ""))
    return made


def _effective_config(
    annotations: Mapping[str, str], own: Mapping[str, Any], mesh: MeshView
) -> dict[str, Any]:
    """Return the mesh's ProxyConfig with the objects' and the annotation's over it."""
    made = merging.merge(mesh.default_config, own)
    text = annotations.get(wishes.PROXY_CONFIG)
    if not text:
        return made
    at = f"annotation {wishes.PROXY_CONFIG}"
    try:
        given = yaml.load(text, yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise wishes.InjectionError(f"{at} is no YAML: {error}"[:300]) from error
    if not isinstance(given, dict):
        raise wishes.InjectionError(f"{at} must be an object such as concurrency: 2")
    found = faults.Faults()
    merged = merging.merge(made, canonical.with_text_keys(given))
    read = reading.read_model(proxy_config.ProxyConfig, merged, (), found)
    if read is None or found:
        told = found.to_error(None, None).diagnostics
        reasons = "; ".join(f"{fault.field_path} {fault.message}" for fault in told)
        raise wishes.InjectionError(f"{at}: {reasons}")
    return read.model_dump(by_alias=True, exclude_defaults=True)


def _strip(pod: Pod, mesh: MeshView) -> Pod:
    """Return the pod without what an earlier injection put in, so that a second one comes to the same."""
    own: Pod = merging.copy_json(pod)
    annotations = own["metadata"].get("annotations") or {}
    status = _read_object(annotations.get(wishes.STATUS, ""))
    if status is None:
        return own
    for field in _LISTS:
        injected = status.get(field) or []
        listed = [c for c in own["spec"].get(field) or [] if c.get("name") not in injected]
        known = {each.get("name") for each in listed}
        # A container that its owner wrote too was merged with ours; what he wrote is kept in an annotation.
        overrides = _read_object(annotations.get(wishes.OVERRIDES, "")) or {}
        listed += [c for c in overrides.get(field) or [] if c.get("name") not in known]
        own["spec"][field] = listed
    del annotations[wishes.STATUS]
    if annotations.get("prometheus.io/port") == str(mesh.default_config.get("statusPort", 15020)):
        for word in ("scrape", "path", "port"):
            annotations.pop(f"prometheus.io/{word}", None)
    return own


def _read_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _apply(pod: Pod, own: Pod, template: Pod, inputs: Inputs) -> Pod:
    """Merge the template over the pod, and what the owner wrote of the injected containers over that."""
    base, written = _with_blanks(pod, template), own
    if inputs.is_native:
        base, written = _as_native(base), _as_native(own)
    made = merging.merge(base, template)
    overrides: dict[str, list[dict[str, Any]]] = {}
    for field in _LISTS:
        ours = {each["name"] for each in template["spec"].get(field) or ()}
        for container in written["spec"].get(field) or ():
            if container.get("name") in ours:
                over = {k: v for k, v in container.items() if (k, v) != ("image", AUTO_IMAGE)}
                overrides.setdefault(field, []).append(over)
                made["spec"] = merging.merge(made["spec"], {field: [over]})
    if overrides:
        text = json.dumps(overrides, separators=(",", ":"), sort_keys=True)
        made["metadata"].setdefault("annotations", {}).setdefault(wishes.OVERRIDES, text)
    _follow_user(made, overrides, inputs)
    return made


def _with_blanks(pod: Pod, template: Pod) -> Pod:
    """Return the pod with a blank in the place of each container that the template makes.

    So a container comes out the same, its lists in the same order, whether the pod was injected before or not. What
    an earlier injection put in and this one does not is gone.
    """
    annotations = pod["metadata"].get("annotations") or {}
    earlier = _read_object(annotations.get(wishes.STATUS, "")) or {}
    overrides = _read_object(annotations.get(wishes.OVERRIDES, "")) or {}
    ours = {each["name"] for field in _LISTS for each in template["spec"].get(field) or ()}
    made = {**pod, "spec": dict(pod["spec"])}
    for field in _LISTS:
        if field not in made["spec"]:
            continue
        kept = {each.get("name") for each in overrides.get(field) or ()} | ours
        gone = set(earlier.get(field) or ()) - kept
        made["spec"][field] = [
            {"name": each["name"]} if each.get("name") in ours else each
            for each in pod["spec"][field] or ()
            if each.get("name") not in gone
        ]
    return made


def _follow_user(made: Pod, overrides: Mapping[str, Any], inputs: Inputs) -> None:
    """Let capture spare the user that the proxy's owner gave it, or else traffic goes in circles."""
    theirs = next((c for each in overrides.values() for c in each if _is_proxy(c)), None)
    user = ((theirs or {}).get("securityContext") or {}).get("runAsUser")
    if not isinstance(user, int) or not user:
        return
    if inputs.interception_mode == "TPROXY":
        # Only root may bind to addresses that are not the pod's.
        made["spec"] = merging.merge(made["spec"], _as_root(overrides))
        return
    for container in made["spec"].get("initContainers") or ():
        if container.get("name") in _CAPTURE:
            arguments = list(container["args"])
            arguments[arguments.index("-u") + 1] = str(user)
            container["args"] = arguments
            if container["name"] == sidecar.VALIDATION:
                container["securityContext"] = {**container["securityContext"], "runAsUser": user}


def _as_root(overrides: Mapping[str, Any]) -> dict[str, Any]:
    field = next(field for field, each in overrides.items() if any(map(_is_proxy, each)))
    return {field: [{"name": proxy_container.NAME, "securityContext": {"runAsUser": 0}}]}


def _finish(made: Pod, template: Pod, inputs: Inputs) -> Pod:
    metadata, spec = made["metadata"], made["spec"]
    proxy = next((c for field in _LISTS for c in spec.get(field) or () if _is_proxy(c)), None)
    annotations = metadata.get("annotations") or {}
    if proxy is not None:
        environment = dict(inputs.environment)
        annotations, scraping = metrics.merge_metrics(
            annotations, inputs.status_port, by_default=inputs.mesh.merges_metrics
        )
        if scraping:
            environment[metrics.SCRAPING] = scraping
        if asked := _rewrite_probes(spec, annotations, inputs):
            environment[probes.PROBERS] = asked
        kept = [each for each in proxy.get("env") or () if each.get("name") not in environment]
        proxy["env"] = kept + [{"name": k, "value": v} for k, v in sorted(environment.items())]
    if network := inputs.environment.get("ISTIO_META_NETWORK"):
        metadata.setdefault("labels", {})["topology.istio.io/network"] = network
    annotations[wishes.STATUS] = _describe(template, inputs.settings.control_plane.revision)
    metadata["annotations"] = annotations | dict(inputs.settings.injected_annotations)
    _order(spec, inputs)
    return made


def _rewrite_probes(spec: dict[str, Any], told: Mapping[str, str], inputs: Inputs) -> str:
    wish = wishes.read_bool(told.get(wishes.REWRITE_PROBES, ""))
    is_wanted = inputs.settings.rewrite_probes if wish is None else wish
    if not is_wanted or not inputs.status_port:
        return ""
    ports = told.get(wishes.INCLUDE_INBOUND_PORTS, "*")
    captured = {int(p) for p in ports.split(",") if p.strip().isdigit()} if ports != "*" else ()
    asked: dict[str, Any] = {}
    for field in _LISTS:
        if field not in spec:
            continue
        listed = []
        for container in spec[field] or ():
            if _is_proxy(container):
                listed.append(container)
                continue
            changed, noted = probes.rewrite_container(
                probes.resolve_ports(container), inputs.status_port, captured
            )
            asked |= noted
            listed.append(changed)
        spec[field] = listed
    kept = _read_object(inputs.environment.get(probes.PROBERS, "")) or {}
    merged = asked | {path: each for path, each in kept.items() if path not in asked}
    return json.dumps(merged, separators=(",", ":"), sort_keys=True) if merged else ""


def _describe(template: Pod, revision: str) -> str:
    spec = template["spec"]
    names = {
        field: [each["name"] for each in spec.get(field) or ()] or None
        for field in ("initContainers", "containers", "volumes", "imagePullSecrets")
    }
    return json.dumps({**names, "revision": revision}, separators=(",", ":"))


def _order(spec: dict[str, Any], inputs: Inputs) -> None:
    """Put each container where it must start.

    A sidecar container comes before all other init containers, so that they are in the mesh; an ordinary proxy last,
    so that `kubectl exec` goes to the application, or first where the application waits for it. Ordinary init
    containers run before capture, which would leave them without a proxy to go through.
    """
    if spec.get("containers"):
        spec["containers"] = _move(
            spec["containers"], [proxy_container.NAME], to_front=inputs.holds_application
        )
    listed = spec.get("initContainers")
    if not listed:
        return
    if any(_is_proxy(each) for each in listed):
        first = [*_CAPTURE, proxy_container.NAME, sidecar.CORE_DUMP]
        spec["initContainers"] = _move(listed, first, to_front=True)
        return
    listed = _move(listed, [sidecar.VALIDATION], to_front=True)
    spec["initContainers"] = _move(listed, [sidecar.INIT, sidecar.CORE_DUMP], to_front=False)


def _move(containers: list[Any], names: list[str], *, to_front: bool) -> list[Any]:
    by_name = {each.get("name"): each for each in containers}
    moved = [by_name[name] for name in names if name in by_name]
    rest = [each for each in containers if each.get("name") not in names]
    return moved + rest if to_front else rest + moved
