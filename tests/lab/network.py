"""Network namespaces as pods: one bridge, an address each, and the redirection that istio-iptables sets up."""

from __future__ import annotations

import concurrent.futures
import ctypes
import itertools
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from tests import desk

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

PROXY_UID: Final = 1337
PREFIX_LENGTH: Final = 16
NODE_IP: Final = "10.77.0.1"
_BRIDGE: Final = "br0"
# Given and not left to the kernel, which has a bridge take the lowest address of its ports: a port added later would
# change it, and who has learned the former sends to nobody until the neighbour entry ages.
_BRIDGE_MAC: Final = "02:00:0a:4d:00:01"
_CLONE_NEWNET: Final = 0x40000000
_N_THREADS: Final = 16
_numbers = itertools.count()
_TOOLS: Final = ("ip", "iptables-restore", "nsenter", "unshare", "setpriv", "openssl")

# The chains of istio-iptables with its default flags: what comes in goes to 15006, what goes out to 15001; the proxy's
# own traffic passes, except what it sends to its own pod's address, which is to come in again.
REDIRECTION: Final = f"""*nat
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A OUTPUT -p tcp -j ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp -m multiport --dports 15008,15090,15021,15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp ! --dport 15008 -m owner --uid-owner {PROXY_UID} -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner {PROXY_UID} -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner {PROXY_UID} -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp ! --dport 15008 -m owner --gid-owner {PROXY_UID} -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner {PROXY_UID} -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner {PROXY_UID} -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
"""


def find_missing() -> str:
    """Return what this machine lacks for network namespaces with redirection; "" if nothing."""
    if os.geteuid() != 0:
        return "root"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} (Debian: iproute2, iptables, openssl, util-linux)"
    probe = Namespace(f"navarch-{os.getpid()}-probe")
    try:
        _run(["ip", "netns", "add", probe.name])
        probe.redirect()
    except RuntimeError as error:
        return f"network namespaces with iptables: {error}"
    finally:
        probe.remove()
    return ""


def require() -> None:
    """End the test where the lab can't run."""
    missing = find_missing()
    desk.require(not missing, f"the lab needs {missing}")


class Namespace:
    """One network namespace, and threads that live in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = Path("/run/netns") / name
        self._threads = concurrent.futures.ThreadPoolExecutor(_N_THREADS, name, self._enter)

    def submit(
        self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        """Call a function in a thread whose sockets are of this namespace."""
        return self._threads.submit(call, *args, **kwargs)

    def redirect(self) -> None:
        """Send all TCP through the sidecar."""
        _run(["nsenter", f"--net={self.path}", "iptables-restore", "--noflush"], REDIRECTION)

    def remove(self) -> None:
        """End the threads and remove the namespace; with it go its links and rules."""
        self._threads.shutdown()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)

    def _enter(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with self.path.open("rb") as file:
            if libc.setns(file.fileno(), _CLONE_NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(self.path))


class Network:
    """One bridge in a namespace of its own, `node`; each further namespace hangs on it."""

    def __init__(self) -> None:
        # One process may have several networks, one after the other or side by side.
        self._prefix = f"navarch-{os.getpid()}-{next(_numbers)}-"
        self._namespaces: list[Namespace] = []
        self.node = self._make("node")
        at = ["ip", "-n", self.node.name]
        _run([*at, "link", "add", _BRIDGE, "address", _BRIDGE_MAC, "type", "bridge"])
        _run([*at, "address", "add", f"{NODE_IP}/{PREFIX_LENGTH}", "dev", _BRIDGE])
        _run([*at, "link", "set", _BRIDGE, "up"])

    def add_node_address(self, ip: str) -> None:
        """Give the node one more address."""
        at = ["ip", "-n", self.node.name, "address", "replace"]
        _run([*at, f"{ip}/{PREFIX_LENGTH}", "dev", _BRIDGE])

    def lead(self, ip: str, port: int, to: str) -> None:
        """Have who is on the node reach a Service's address, as kube-proxy does: `to` is an address with a port."""
        _run(["ip", "-n", self.node.name, "route", "replace", f"{ip}/32", "dev", _BRIDGE])
        rule = f"-d {ip}/32 -p tcp --dport {port} -j DNAT --to-destination {to}"
        _run(
            [
                "nsenter",
                f"--net={self.node.path}",
                "iptables",
                "-t",
                "nat",
                "-A",
                "OUTPUT",
                *rule.split(),
            ]
        )

    def add(self, name: str, ip: str, *, has_redirection: bool) -> Namespace:
        """Make a namespace with one address; all that it does not know goes to the node."""
        made = self._make(name)
        port = f"v{len(self._namespaces)}"
        link = f"link add {port} type veth peer name eth0 netns {made.name}\n"
        _run(
            ["ip", "-n", self.node.name, "-batch", "-"],
            f"{link}link set {port} master {_BRIDGE} up\n",
        )
        lines = [
            f"address add {ip}/{PREFIX_LENGTH} dev eth0",
            "link set eth0 up",
            f"route add default via {NODE_IP}",
        ]
        _run(["ip", "-n", made.name, "-batch", "-"], "\n".join(lines) + "\n")
        if has_redirection:
            made.redirect()
        return made

    def close(self) -> None:
        """Remove all."""
        for namespace in reversed(self._namespaces):
            namespace.remove()

    def _make(self, name: str) -> Namespace:
        made = Namespace(self._prefix + name)
        _run(["ip", "netns", "add", made.name])
        self._namespaces.append(made)
        _run(["ip", "-n", made.name, "link", "set", "lo", "up"])
        return made


def _run(command: list[str], stdin: str = "") -> None:
    made = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
    if made.returncode:
        raise RuntimeError(f"{' '.join(command)}: {made.stderr.strip()}")
