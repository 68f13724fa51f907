"""Runs pods as their objects say: containers of images that are folders of this machine, in one network namespace.

What a pod's spec asks for is done as the kubelet does it, also what it forbids; a field that is not known here is an
error, so that none is passed over in silence. Source: Kubernetes API reference, Pod; "Sidecar containers".
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.kubernetes import api as apis
from tests.lab import client, network, processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SYSTEM: Final = ("/usr", "/bin", "/lib", "/lib64", "/sbin")
"""What every image here shares: the system of this machine, read-only."""
_START_SECONDS: Final = 60.0
_VARIABLE: Final = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_UNITS: Final = {"m": 0.001, "": 1, "k": 1e3, "M": 1e6, "G": 1e9}
_UNITS_OF_TWO: Final = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_CONTAINER: Final = frozenset(
    {
        "args",
        "command",
        "env",
        "image",
        "imagePullPolicy",
        "lifecycle",
        "livenessProbe",
        "name",
        "ports",
        "readinessProbe",
        "resources",
        "restartPolicy",
        "securityContext",
        "startupProbe",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "volumeMounts",
    }
)
_RIGHTS: Final = frozenset(
    {
        "allowPrivilegeEscalation",
        "capabilities",
        "privileged",
        "readOnlyRootFilesystem",
        "runAsGroup",
        "runAsNonRoot",
        "runAsUser",
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """What a container is made of.

    Attributes:
        entrypoint: What runs where the container names no command.
        arguments: What it is given where the container names neither command nor args.
        folders: Folders of this machine by where they lie in the image.
        user: Whom it runs as where the container does not say.
    """

    entrypoint: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    folders: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    user: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """What pods find where they run.

    Attributes:
        api: The API server, as the kubelet asks it.
        images: By their names.
        hosts: Addresses by name: what the cluster's DNS would tell.
        folder: For volumes and logs.
    """

    api: apis.Api
    images: Mapping[str, Image]
    hosts: Mapping[str, str]
    folder: Path


class RunningPod:
    """A pod that runs; its methods are to be called from a thread of the node's namespace."""

    def __init__(self, pod: apis.Object, node: Node, namespace: network.Namespace, ip: str) -> None:
        """Make its volumes; nothing runs yet.

        Args:
            pod: As the API server has it.
            node: Where it runs.
            namespace: The pod's.
            ip: Its address.
        """
        self.pod = pod
        self.ip = ip
        self._node = node
        self._namespace = namespace
        metadata = pod["metadata"]
        self._folder: Path = node.folder / f"{metadata['name']}-{metadata['uid']}"
        self._folder.mkdir(parents=True)
        self._volumes = {
            each["name"]: self._make_volume(each) for each in pod["spec"].get("volumes") or ()
        }
        self._etc = self._make_etc()
        self._sidecars: dict[str, processes.Process] = {}
        self._running: dict[str, processes.Process] = {}

    @property
    def containers(self) -> list[dict[str, Any]]:
        """Return its containers that stay: sidecar containers first."""
        spec = self.pod["spec"]
        inits = spec.get("initContainers") or ()
        return [*(e for e in inits if _is_sidecar(e)), *spec["containers"]]

    def start(self) -> None:
        """Run its init containers in turn, then all others, and wait until it is ready."""
        spec = self.pod["spec"]
        assert not spec.get("hostNetwork"), "the pod has a namespace of its own"
        for container in spec.get("initContainers") or ():
            process = self._run(container)
            if _is_sidecar(container):
                self._sidecars[container["name"]] = process
                self._wait_probe(container, "startupProbe", process)
            else:
                self._wait_success(container, process)
        for container in spec["containers"]:
            process = self._running[container["name"]] = self._run(container)
            self._wait_probe(container, "startupProbe", process)
        for container in self.containers:
            name = container["name"]
            process = self._sidecars.get(name) or self._running[name]
            self._wait_probe(container, "readinessProbe", process)
        addresses = {"podIP": self.ip, "podIPs": [{"ip": self.ip}], "hostIP": network.NODE_IP}
        ready = [{"type": "Ready", "status": "True"}]
        status = {"phase": "Running", **addresses, "conditions": ready}
        self._node.api.patch(self.pod, {"status": status}, "status")

    def stop(self) -> dict[str, int]:
        """End it as a pod that was deleted: the application first, sidecars after it; return all exit codes."""
        for container in self.containers:
            action = (container.get("lifecycle") or {}).get("preStop")
            if action is not None:
                command = [self._expand(word, {}) for word in action["exec"]["command"]]
                self._wait_success(container, self._run({**container, "command": command}, "stop"))
        codes = {name: each.stop() for name, each in self._running.items()}
        codes |= {name: each.stop() for name, each in reversed(self._sidecars.items())}
        self._running, self._sidecars = {}, {}
        return codes

    def tell_to_end(self) -> None:
        """Tell all its containers at once to end, without order; `stop` then waits for them."""
        for each in (*self._running.values(), *self._sidecars.values()):
            each.send(signal.SIGTERM)

    def log(self, container: str) -> str:
        """Return all that a container has said."""
        return (self._folder / f"{container}.log").read_text(errors="replace")

    def _run(self, container: dict[str, Any], suffix: str = "") -> processes.Process:
        assert container.keys() <= _CONTAINER, container.keys() - _CONTAINER
        image = self._node.images[container["image"]]
        env = self._environment(container)
        command = [self._expand(word, env) for word in container.get("command") or ()]
        words = [self._expand(word, env) for word in container.get("args") or ()]
        if not command:
            command = [*image.entrypoint, *(() if words else image.arguments)]
        rights = container.get("securityContext") or {}
        told = [f"{name}={value}" for name, value in ({"PATH": _PATH} | env).items()]
        inner = [*_as_user(rights, image), "/usr/bin/env", "-i", *told, *command, *words]
        script = "\n".join(self._root(container, image))
        wrapped = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh"]
        name = f"{container['name']}{suffix and '-'}{suffix}.log"
        at = processes.in_namespace(self._namespace, [*wrapped, *inner])
        return processes.Process(at, self._folder / name)

    def _root(self, container: dict[str, Any], image: Image) -> Iterator[str]:
        """Give the lines that make a container's file system, and run the rest of the command in it."""
        root = self._folder / f"{container['name']}.root"
        root.mkdir(exist_ok=True)
        yield f"mount -t tmpfs -o mode=755 none {root}"
        for place in map(Path, _SYSTEM):
            if place.is_symlink():
                yield f"ln -s {place.readlink()} {root}{place}"
            elif place.exists():
                yield _bind(place, f"{root}{place}", is_read_only=True)
        for target, folder in image.folders.items():
            yield _bind(folder, f"{root}{target}", is_read_only=True)
        yield _bind(Path("/dev"), f"{root}/dev", is_read_only=False)
        yield _bind(Path("/proc"), f"{root}/proc", is_read_only=False)
        yield f"mkdir -p -m 1777 {root}/tmp && mkdir -p {root}/etc && cp {self._etc}/* {root}/etc/"
        for mount in container.get("volumeMounts") or ():
            is_read_only = bool(mount.get("readOnly"))
            target = f"{root}{mount['mountPath']}"
            yield _bind(self._volumes[mount["name"]], target, is_read_only=is_read_only)
        if (container.get("securityContext") or {}).get("readOnlyRootFilesystem"):
            yield f"mount -o remount,ro,bind {root}"
        yield f'exec chroot {root} "$@"'

    def _environment(self, container: dict[str, Any]) -> dict[str, str]:
        made: dict[str, str] = {}
        for each in container.get("env") or ():
            source = each.get("valueFrom")
            if source is None:
                made[each["name"]] = self._expand(each.get("value", ""), made)
            elif "fieldRef" in source:
                made[each["name"]] = self._field(source["fieldRef"]["fieldPath"])
            else:
                limit = source["resourceFieldRef"]["resource"].removeprefix("limits.")
                made[each["name"]] = str(_quantity(container["resources"]["limits"][limit]))
        return made

    def _field(self, path: str) -> str:
        addresses = {"status.podIP": self.ip, "status.hostIP": network.NODE_IP}
        if path in addresses:
            return addresses[path]
        part, _, name = path.partition(".")
        if part == "metadata" and name in ("labels", "annotations"):
            held = self.pod["metadata"].get(name) or {}
            return "\n".join(f"{key}={json.dumps(held[key])}" for key in sorted(held))
        return str(self.pod[part][name])

    @staticmethod
    def _expand(word: str, env: Mapping[str, str]) -> str:
        return _VARIABLE.sub(lambda found: env.get(found[1], found[0]), word)

    def _make_volume(self, volume: dict[str, Any]) -> Path:
        name, kind = volume["name"], next(key for key in volume if key != "name")
        folder: Path = self._folder / "volumes" / name
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        files: dict[str, str] = {}
        if kind == "downwardAPI":
            for item in volume[kind]["items"]:
                files[item["path"]] = self._field(item["fieldRef"]["fieldPath"])
        elif kind == "configMap":
            files = self._wait_config_map(volume[kind]["name"]).get("data") or {}
        elif kind == "projected":
            for source in volume[kind]["sources"]:
                told = source["serviceAccountToken"]
                files[told["path"]] = self._request_token(told)
        else:
            assert kind == "emptyDir", kind
        for path, text in files.items():
            (folder / path).write_text(text)
            (folder / path).chmod(0o644)
        return folder

    def _wait_config_map(self, name: str) -> apis.Object:
        """Return a ConfigMap, which may be made only after the pod."""
        found: list[apis.Object] = []

        def look() -> bool:
            with contextlib.suppress(apis.ApiError):
                namespace = self.pod["metadata"]["namespace"]
                found.append(self._node.api.get("v1", "ConfigMap", namespace, name))
            return bool(found)

        processes.wait_until(look, f"ConfigMap {name}", _START_SECONDS)
        return found[0]

    def _request_token(self, told: dict[str, Any]) -> str:
        metadata, account = self.pod["metadata"], self.pod["spec"]["serviceAccountName"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        bound = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        spec = {
            "audiences": [told["audience"]],
            "expirationSeconds": told["expirationSeconds"],
            "boundObjectRef": bound,
        }
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return str(self._node.api.request("POST", path, body)["status"]["token"])

    def _make_etc(self) -> Path:
        made = self._folder / "etc"
        made.mkdir()
        rows = {"localhost": "127.0.0.1"} | dict(self._node.hosts)
        (made / "hosts").write_text("".join(f"{ip}\t{name}\n" for name, ip in rows.items()))
        (made / "nsswitch.conf").write_text("hosts: files dns\n")
        (made / "resolv.conf").write_text("options ndots:5\n")
        (made / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        return made

    def _wait_success(self, container: dict[str, Any], process: processes.Process) -> None:
        processes.wait_until(lambda: not process.is_running, f"{container['name']} ends", 40)
        code = process.stop()
        assert code == 0, f"{container['name']} ended with {code}: {process.tail()}"

    def _wait_probe(self, container: dict[str, Any], name: str, process: processes.Process) -> None:
        probe = container.get(name)
        if probe is None:
            return
        is_good = functools.partial(self._is_good, probe)

        def is_over() -> bool:
            return not process.is_running or is_good()

        what = f"{self.pod['metadata']['name']}: {name} of {container['name']}"
        try:
            processes.wait_until(is_over, what, _START_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{process.tail()}") from None
        assert process.is_running, f"{what}: it ended\n{process.tail()}"

    def _is_good(self, probe: dict[str, Any]) -> bool:
        action = probe["httpGet"]
        assert action.get("scheme", "HTTP") == "HTTP", action
        reply = client.get(self.ip, int(action["port"]), action["path"], {})
        return 200 <= reply.status < 400


def _is_sidecar(container: Mapping[str, Any]) -> bool:
    return container.get("restartPolicy") == "Always"


def _bind(folder: Path, place: str, *, is_read_only: bool) -> str:
    options = "-o ro --bind" if is_read_only else "--rbind"
    return f"mkdir -p {place} && mount {options} {folder} {place}"


def _as_user(rights: Mapping[str, Any], image: Image) -> list[str]:
    """Return the command that takes all rights that a container has not."""
    assert rights.keys() <= _RIGHTS, rights.keys() - _RIGHTS
    assert not rights.get("privileged"), "nothing here may do all"
    user = rights.get("runAsUser", image.user)
    assert user or not rights.get("runAsNonRoot"), "it must not be root"
    group = rights.get("runAsGroup", user)
    made = [str(shutil.which("setpriv")), f"--reuid={user}", f"--regid={group}", "--clear-groups"]
    capabilities = rights.get("capabilities") or {}
    if capabilities.get("drop") == ["ALL"]:
        added = "".join(f",+{name.lower()}" for name in capabilities.get("add") or ())
        made += [f"--bounding-set=-all{added}", "--inh-caps=-all"]
    if rights.get("allowPrivilegeEscalation") is False:
        made.append("--no-new-privs")
    return [*made, "--"]


def _quantity(text: str) -> int:
    """Read an amount of a resource, in whole units, rounded up."""
    number = text.rstrip("KMGkmi")
    unit = text[len(number) :]
    return math.ceil(float(number) * (_UNITS | _UNITS_OF_TWO)[unit])


def python_image(words: Sequence[str], folders: Mapping[str, Path] | None = None) -> Image:
    """Return an image of this Python with folders beside it."""
    base = Path(sys.base_prefix)
    own = {} if str(base).startswith("/usr") else {str(base): base}
    executable = Path(sys.executable).resolve()
    return Image((str(executable), *words), folders=own | dict(folders or {}))
