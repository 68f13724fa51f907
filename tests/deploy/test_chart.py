"""The chart: what it makes, for one revision and for several, and that it says what the code says."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deploy import render
from navarch import cli
from navarch.crds import mesh_config, mesh_networks
from navarch.injection import labels, settings

if TYPE_CHECKING:
    from tests.deploy.conftest import Render

ROOT = Path(__file__).parents[2]


def of(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in objects if each["kind"] == kind]


def one(objects: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    (found,) = (each for each in of(objects, kind) if name in ("", each["metadata"]["name"]))
    return found


def test_what_is_written_in_the_repository_is_current(helm: Path) -> None:
    """Else: `make manifests`."""
    assert render.DEFINITIONS.read_text() == render.render_definitions()
    assert render.MANIFESTS.read_text() == render.render_manifests(helm)


def test_helm_finds_no_fault(helm: Path) -> None:
    command = [str(helm), "lint", "--strict", str(render.CHART)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_definitions_are_in_the_chart_unless_they_are_not_wanted(rendered: Render) -> None:
    assert len(of(rendered(crds={"install": True}), "CustomResourceDefinition")) == 15
    assert of(rendered(), "CustomResourceDefinition") == []


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"replica": 3}, "replica"),
        ({"replicas": 0}, "replicas"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"revision": "Not A Name"}, "revision"),
        ({"podDisruptionBudget": {"minAvailable": "half"}}, "minAvailable"),
        ({"validation": {"failurePolicy": "Open"}}, "failurePolicy"),
        ({"env": {"A": 1}}, "env"),
    ],
)
def test_wrong_values_are_refused_by_name(refused: Any, values: dict[str, Any], word: str) -> None:
    assert word in refused(**values)


def test_the_pod_is_unprivileged_and_watched(rendered: Render) -> None:
    objects = rendered()
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    service = one(objects, "Service")
    assert {port["port"]: ports[port["targetPort"]] for port in service["spec"]["ports"]} == {
        15012: 15012,
        443: 15017,
        15014: 8080,
    }
    assert {volume["name"] for volume in pod["volumes"]} == {
        mount["name"] for mount in container["volumeMounts"]
    }


def test_plaintext_is_opened_on_request_only(rendered: Render) -> None:
    for is_open in (False, True):
        objects = rendered(plaintext={"enabled": is_open})
        (container,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
        env = {each["name"]: each.get("value") for each in container["env"]}
        assert env["NAVARCH_GRPC_ADDRESS"].startswith("127.0.0.1") != is_open
        told = yaml.safe_dump([one(objects, "Service"), one(objects, "NetworkPolicy")])
        assert ("15010" in told) == is_open


def test_every_selector_finds_the_pods(rendered: Render) -> None:
    objects = rendered(serviceMonitor={"enabled": True})
    deployment = one(objects, "Deployment")["spec"]
    own = deployment["template"]["metadata"]["labels"].items()
    selectors = [
        deployment["selector"]["matchLabels"],
        one(objects, "Service")["spec"]["selector"],
        one(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(
            each["labelSelector"]["matchLabels"]
            for each in deployment["template"]["spec"]["topologySpreadConstraints"]
        ),
    ]
    assert all(selector.items() <= own for selector in selectors)
    monitor = one(objects, "ServiceMonitor")["spec"]
    service = one(objects, "Service")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_replicas_are_the_autoscalers_or_the_charts(rendered: Render) -> None:
    objects = rendered()
    assert "replicas" not in one(objects, "Deployment")["spec"]
    target = one(objects, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target["name"] == one(objects, "Deployment")["metadata"]["name"]
    fixed = rendered(autoscaling={"enabled": False}, replicas=3)
    assert of(fixed, "HorizontalPodAutoscaler") == []
    assert one(fixed, "Deployment")["spec"]["replicas"] == 3


def test_what_is_switched_off_is_not_there(rendered: Render) -> None:
    off = {"enabled": False}
    objects = rendered(
        autoscaling=off,
        podDisruptionBudget=off,
        networkPolicy=off,
        injection=off,
        validation=off,
        rbac={"create": False},
        serviceAccount={"create": False, "name": "mine"},
    )
    assert {each["kind"] for each in objects} == {"ConfigMap", "Deployment", "Service"}
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "mine"


def test_variables_are_those_that_serve_reads(rendered: Render) -> None:
    told = (option.envvar for option in cli.serve.params)
    known = {name for each in told for name in ([each] if isinstance(each, str) else each or ())}
    (container,) = one(rendered(), "Deployment")["spec"]["template"]["spec"]["containers"]
    given = {each["name"] for each in container["env"] if each["name"].startswith("NAVARCH_")}
    assert given <= known, given - known


def test_settings_in_config_maps_are_valid_and_know_the_revision(rendered: Render) -> None:
    objects = rendered(
        revision="canary",
        meshConfig={"accessLogFile": "/dev/stdout", "defaultConfig": {"concurrency": 2}},
        meshNetworks={"networks": {"n": {"endpoints": [{"fromRegistry": "east"}]}}},
        injection={"settings": {"proxy": {"image": "mine:1"}, "cluster": {"network": "net-1"}}},
        cluster={"name": "east"},
    )
    mesh = one(objects, "ConfigMap", "istio-canary")["data"]
    made = yaml.safe_load(mesh_config.read_mesh_config(yaml.safe_load(mesh["mesh"])))
    assert (made["accessLogFile"], made["rootNamespace"]) == ("/dev/stdout", render.NAMESPACE)
    mesh_networks.read_mesh_networks(yaml.safe_load(mesh["meshNetworks"]))
    told = settings.read_settings(
        yaml.safe_load(one(objects, "ConfigMap", "navarch-canary-injection")["data"]["settings"])
    )
    assert (told.proxy.image, told.cluster.name, told.cluster.network) == (
        "mine:1",
        "east",
        "net-1",
    )
    plane = told.control_plane
    host = f"{plane.service}-{plane.revision}"
    assert host == one(objects, "Service")["metadata"]["name"]


def selector_matches(selector: dict[str, Any], given: dict[str, str]) -> bool:
    return bool(labels.Selector.model_validate(selector).matches(given))


NAMESPACE_LABELS = [
    {key: value for key, value in (("istio-injection", switch), ("istio.io/rev", rev)) if value}
    for switch, rev in itertools.product(
        ("", "enabled", "disabled"), ("", "default", "canary", "x")
    )
]
POD_LABELS = [
    {
        key: value
        for key, value in (("sidecar.istio.io/inject", wish), ("istio.io/rev", rev))
        if value
    }
    for wish, rev in itertools.product(("", "true", "false"), ("", "default", "canary", "x"))
]


@pytest.mark.parametrize("revision", ["default", "canary"])
def test_webhooks_are_asked_for_the_pods_that_the_code_would_inject(
    rendered: Render, revision: str
) -> None:
    configuration = one(rendered(revision=revision), "MutatingWebhookConfiguration")
    for namespace, pod in itertools.product(NAMESPACE_LABELS, POD_LABELS):
        place = namespace | {"kubernetes.io/metadata.name": "shop"}
        asked = [
            hook["name"]
            for hook in configuration["webhooks"]
            if selector_matches(hook["namespaceSelector"], place)
            and selector_matches(hook["objectSelector"], pod)
        ]
        wanted = labels.ask_labels(namespace, pod, revision).is_wanted
        assert len(asked) == wanted, (namespace, pod, asked)


def test_revisions_and_tags_live_side_by_side(rendered: Render) -> None:
    old, new = rendered(), rendered(revision="canary", tags=["prod"])

    def names(objects: list[dict[str, Any]]) -> set[tuple[str, str]]:
        return {(each["kind"], each["metadata"]["name"]) for each in objects}

    assert names(old) & names(new) == set()
    tagged = one(
        new, "MutatingWebhookConfiguration", f"istio-sidecar-injector-prod-{render.NAMESPACE}"
    )
    assert tagged["metadata"]["labels"]["istio.io/tag"] == "prod"
    for hook in tagged["webhooks"]:
        assert hook["clientConfig"]["service"]["name"] == "istiod-canary"
    asked = [
        selector_matches(hook["namespaceSelector"], {"istio.io/rev": "prod"})
        for hook in tagged["webhooks"]
    ]
    assert sum(asked) == 1


def test_a_revision_that_is_tagged_default_takes_the_defaults_place(rendered: Render) -> None:
    objects = rendered(revision="canary", tags=["default"])
    assert {each["metadata"]["name"] for each in of(objects, "Service")} == {
        "istiod",
        "istiod-canary",
    }
    configurations = of(objects, "MutatingWebhookConfiguration")
    hooks = [hook for each in configurations for hook in each["webhooks"]]
    enabled = {"istio-injection": "enabled", "kubernetes.io/metadata.name": "shop"}
    asked = [hook for hook in hooks if selector_matches(hook["namespaceSelector"], enabled)]
    assert [hook["clientConfig"]["service"]["name"] for hook in asked] == ["istiod-canary"]


@pytest.mark.parametrize(
    ("revision", "own", "n_asked"),
    [
        ("default", {}, 1),
        ("default", {"istio.io/rev": "default"}, 1),
        ("default", {"istio.io/rev": "canary"}, 0),
        ("canary", {}, 0),
        ("canary", {"istio.io/rev": "canary"}, 1),
    ],
)
def test_each_object_is_checked_by_the_revision_that_reads_it(
    rendered: Render, revision: str, own: dict[str, str], n_asked: int
) -> None:
    configuration = one(rendered(revision=revision), "ValidatingWebhookConfiguration")
    hooks = configuration["webhooks"]
    assert sum(selector_matches(hook["objectSelector"], own) for hook in hooks) == n_asked
    groups = {group for hook in hooks for rule in hook["rules"] for group in rule["apiGroups"]}
    assert all(group.endswith(".istio.io") for group in groups)
    assert {hook["failurePolicy"] for hook in hooks} == {"Fail"}


def test_rights_are_named_one_by_one_and_explained(rendered: Render) -> None:
    text = (ROOT / "docs" / "install.md").read_text()
    for role in [*of(rendered(), "ClusterRole"), *of(rendered(), "Role")]:
        for rule in role["rules"]:
            assert "*" not in rule["verbs"]
            assert "*" not in rule["apiGroups"]
            if "*" in rule["resources"]:
                # Kinds that an operator adds to the mesh's own groups; only to be read.
                assert set(rule["verbs"]) == {"get", "list", "watch"}
            for resource in rule["resources"]:
                assert f"`{resource}`" in text, f"docs/install.md does not say why {resource}"


def test_what_images_are_made_of_is_there() -> None:
    """Whatever is copied from the repository is in it, and what is copied from another stage names one."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    copies = re.findall(r"^COPY (?:--from=(\S+) )?(.+) \S+$", text, re.MULTILINE)
    assert copies
    for stage, sources in copies:
        missing = [] if stage else [each for each in sources.split() if not (ROOT / each).exists()]
        assert missing == [], f"COPY {sources}"
        assert stage in {"", *stages}, f"COPY --from={stage}"


def test_images_are_named_without_a_registry_and_run_without_root() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+)(.*?)(?=^FROM|\Z)", text, re.MULTILINE | re.DOTALL)
    assert all("." not in image.split("/")[0].split(":")[0] for image, _ in stages)
    run = [body for _, body in stages if "ENTRYPOINT" in body]
    assert len(run) == 2
    assert all("\nUSER 1337:1337\n" in body for body in run)
