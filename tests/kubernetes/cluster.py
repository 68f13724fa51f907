"""A real kube-apiserver over a real etcd, on loopback, for one test session or one test.

There is no kubelet, scheduler or controller: objects are what tests make them, and namespaces never go away.
"""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final, Self

import yaml

from tests.kubernetes import api
from tests.kubernetes.servers import build
from tests.lab import processes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

ADMIN: Final = "admin"
"""May do everything."""
NAVARCH: Final = "navarch"
"""May do what `grant` allows; the user that tests run navarch as."""
REMOTE: Final = "remote"
"""As NAVARCH, for a second one: what another cluster's secret holds."""
_START_SECONDS: Final = 60.0
_N_TRIES: Final = 3


class NotStartedError(Exception):
    """A server ended or did not answer in time; has the end of its log."""


class Cluster:
    """Both servers; `stop_apiserver` and `start_apiserver` act out its failures on the same port."""

    def __init__(self, folder: Path, *flags: str) -> None:
        """Start both servers and wait until the API answers.

        Args:
            folder: For data, certificates and logs; new for each cluster.
            flags: Further flags of kube-apiserver.
        """
        self._servers = build.find_servers()
        self._folder = folder
        self._flags = flags
        self._etcd: processes.Process | None = None
        self._apiserver: processes.Process | None = None
        self._apis: list[api.Api] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._tokens = {name: f"token-of-{name}" for name in (ADMIN, NAVARCH, REMOTE)}
        self._write_credentials()
        try:
            self._start_etcd()
            for n_left in reversed(range(_N_TRIES)):
                try:
                    self.port = free_port()
                    self.start_apiserver()
                    break
                except NotStartedError:
                    # The port may have been taken meanwhile.
                    if not n_left:
                        raise
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def certificates(self) -> Path:
        """The file of the certificates that the API server's is verified by."""
        return self._folder / "certificates" / "apiserver.crt"

    @property
    def url(self) -> str:
        """Where the API server is."""
        return f"https://127.0.0.1:{self.port}"

    def api(self, user: str = ADMIN) -> api.Api:
        """Make a client of a user; `close` closes it."""
        self._apis.append(api.Api(self.port, self.certificates, self._tokens[user]))
        return self._apis[-1]

    def kubeconfig(self, user: str = NAVARCH) -> Path:
        """Write a kubeconfig of a user; return its file."""
        path = self._folder / f"{user}.kubeconfig"
        path.write_text(yaml.safe_dump(self.kubeconfig_object(user)))
        return path

    def kubeconfig_object(self, user: str = NAVARCH, url: str = "") -> dict[str, Any]:
        """Return a kubeconfig of a user, with the API server at another place if one is given."""
        cluster = {"server": url or self.url, "certificate-authority": str(self.certificates)}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self._tokens[user]}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        }

    def inlined_kubeconfig(self, user: str = NAVARCH, url: str = "") -> dict[str, Any]:
        """Return a kubeconfig that names no file of this machine, as Secrets hold them."""
        made = self.kubeconfig_object(user, url)
        place = made["clusters"][0]["cluster"]
        del place["certificate-authority"]
        data = base64.b64encode(self.certificates.read_bytes()).decode()
        place["certificate-authority-data"] = data
        return made

    def remote_secret(self, name: str, url: str = "") -> dict[str, Any]:
        """Return the Secret by which another cluster knows this one under a name."""
        return remote_secret(name, self.inlined_kubeconfig(url=url))

    def grant(self, user: str, rules: Sequence[Mapping[str, Sequence[str]]]) -> None:
        """Allow a user what the rules of a ClusterRole say, and nothing else."""
        group = "rbac.authorization.k8s.io"
        frame = {"apiVersion": f"{group}/v1", "metadata": {"name": f"tests-{user}"}}
        subjects = [{"kind": "User", "name": user, "apiGroup": group}]
        role = {"kind": "ClusterRole", "name": f"tests-{user}", "apiGroup": group}
        self.api().apply(
            [
                frame | {"kind": "ClusterRole", "rules": [dict(rule) for rule in rules]},
                frame | {"kind": "ClusterRoleBinding", "roleRef": role, "subjects": subjects},
            ]
        )

    def start_apiserver(self) -> None:
        """Start it on its port, and wait until it is ready.

        Raises:
            NotStartedError: It ended, or was not ready in time.
        """
        command = [str(self._servers.apiserver), *self._apiserver_flags(), *self._flags]
        self._apiserver = processes.Process(command, self._folder / "apiserver.log")
        self._wait_for(self._apiserver, f"{self.url}/readyz")

    def stop_apiserver(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it; with SIGTERM it finishes its watches first."""
        if self._apiserver is not None:
            self._apiserver.stop(number)
            self._apiserver = None

    def pause_apiserver(self) -> None:
        """Hold it: its connections stay open and silent until `resume_apiserver`."""
        assert self._apiserver is not None
        self._apiserver.send(signal.SIGSTOP)

    def resume_apiserver(self) -> None:
        """Let it go on."""
        assert self._apiserver is not None
        self._apiserver.send(signal.SIGCONT)

    def compact(self) -> None:
        """Let etcd forget all but the newest revision: who watches from an older one gets 410 Gone."""
        status = self._call_etcd("/v3/maintenance/status", {})
        revision = status["header"]["revision"]
        with contextlib.suppress(urllib.error.HTTPError):
            # Compacted already: nothing was written since.
            self._call_etcd("/v3/kv/compaction", {"revision": revision, "physical": True})

    def close(self) -> None:
        """End both."""
        for client in self._apis:
            client.close()
        self.stop_apiserver()
        if self._etcd is not None:
            self._etcd.stop(signal.SIGKILL)
            self._etcd = None

    def _write_credentials(self) -> None:
        rows = [
            f'{token},{name},{name},"{"system:masters" if name == ADMIN else "testers"}"\n'
            for name, token in self._tokens.items()
        ]
        (self._folder / "tokens.csv").write_text("".join(rows))
        key = str(self._folder / "accounts.key")
        command = ["openssl", "genpkey", "-algorithm", "RSA", "-out", key]
        subprocess.run(command, check=True, capture_output=True)

    def _start_etcd(self) -> None:
        client, peer = free_port(), free_port()
        self._etcd_url = f"http://127.0.0.1:{client}"
        peers = f"http://127.0.0.1:{peer}"
        command = [
            str(self._servers.etcd),
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={self._etcd_url}",
            f"--advertise-client-urls={self._etcd_url}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]
        self._etcd = processes.Process(command, self._folder / "etcd.log")
        self._wait_for(self._etcd, f"{self._etcd_url}/health")

    def _apiserver_flags(self) -> list[str]:
        key = self._folder / "accounts.key"
        return [
            f"--etcd-servers={self._etcd_url}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={self.port}",
            f"--cert-dir={self._folder / 'certificates'}",
            f"--token-auth-file={self._folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            # It waits for service accounts, which a controller makes, before it admits a Pod.
            "--disable-admission-plugins=ServiceAccount",
        ]

    def _wait_for(self, process: processes.Process, url: str) -> None:
        # Loopback: whether it is up is asked before its certificate can be known.
        tls = ssl._create_unverified_context() if url.startswith("https") else None
        request = urllib.request.Request(url)
        request.add_header("Authorization", f"Bearer {self._tokens[ADMIN]}")
        deadline = time.monotonic() + _START_SECONDS
        while process.is_running and time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(request, timeout=5, context=tls) as answer,
            ):
                if answer.status == 200:
                    return
            time.sleep(0.05)
        process.stop(signal.SIGKILL)
        raise NotStartedError(process.tail())

    def _call_etcd(self, path: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self._etcd_url + path, data, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())


def remote_secret(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Secret of a remote cluster with a kubeconfig, as `istioctl create-remote-secret` makes it."""
    text = base64.b64encode(yaml.safe_dump(dict(document)).encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": f"istio-remote-secret-{name}",
            "namespace": "istio-system",
            "labels": {"istio/multiCluster": "true"},
        },
        "data": {name: text},
    }


def free_port() -> int:
    """Return a port of loopback that nobody has just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
