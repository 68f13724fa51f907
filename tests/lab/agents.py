"""Pods with the agent: each starts its own Envoy, proves itself by a token and gets its certificate from navarch."""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests import desk
from tests.lab import client, meshes, network, processes
from tests.lab.planned import Plan, PlannedStage

if TYPE_CHECKING:
    from collections.abc import Mapping

SECURE: Final = f"{network.NODE_IP}:15012"
ISSUER: Final = "https://lab.example"
STATUS_PORT: Final = 15020
READY_PORT: Final = 15021
DNS_PORT: Final = 15053
_HTTP_PORT: Final = 15014


def find_agent() -> Path:
    """Return the agent's binary: `NAVARCH_AGENT`, or that of this environment."""
    told = os.environ.get("NAVARCH_AGENT")
    found = Path(told) if told else Path(sysconfig.get_path("scripts")) / "navarch-agent"
    desk.require(found.is_file(), f"there is no {found}: run `make build`, or set NAVARCH_AGENT")
    return found


def _encode(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


class Issuer:
    """Who gives out tokens: an RSA key, its JWKS in a file, and JWTs by openssl; by default as a cluster does."""

    def __init__(self, directory: Path, name: str = "issuer", issuer: str = ISSUER) -> None:
        self._name, self._issuer = name, issuer
        self._key = directory / f"{name}.key"
        self.jwks = directory / f"{name}.json"
        self._run("genrsa", "-out", str(self._key), "2048")
        self.jwks.write_text(json.dumps({"keys": [self.public_key()]}))

    def public_key(self) -> dict[str, str]:
        """Return the key that verifies, as a JWKS has it."""
        told = self._run("rsa", "-in", str(self._key), "-noout", "-modulus").decode()
        modulus = bytes.fromhex(told.partition("=")[2].strip())
        made = {"kty": "RSA", "alg": "RS256", "kid": self._name}
        return made | {"n": _encode(modulus), "e": "AQAB"}

    def issue(self, account: str) -> str:
        """Return a token of a service account of the lab's namespace."""
        subject = f"system:serviceaccount:{meshes.NAMESPACE}:{account}"
        return self.sign({"aud": ["istio-ca"], "sub": subject})

    def sign(self, claims: dict[str, Any]) -> str:
        """Return a token with these claims; one of this issuer that lasts an hour, unless they say otherwise."""
        claims = {"iss": self._issuer, "exp": int(time.time()) + 3600} | claims
        parts = ({"alg": "RS256", "typ": "JWT", "kid": self._name}, claims)
        signed = ".".join(_encode(json.dumps(part).encode()) for part in parts)
        signature = self._run("dgst", "-sha256", "-sign", str(self._key), told=signed.encode())
        return f"{signed}.{_encode(signature)}"

    @staticmethod
    def _run(*words: str, told: bytes = b"") -> bytes:
        done = subprocess.run(["openssl", *words], input=told, capture_output=True, check=True)
        return done.stdout


class AgentStage(PlannedStage):
    """A mesh whose proxies are agents' children; navarch serves them on its authenticated port alone.

    Attributes:
        serve_flags: More flags for `navarch serve`, set before it starts.
    """

    def __init__(self, plan: Plan, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(plan)
        self._environment = environment or {}
        self._agent = Path(shutil.copy2(find_agent(), self.dir / "navarch-agent"))
        self._issuer = Issuer(self.dir)
        self.serve_flags: list[str] = []
        self.authority = self.dir / "authority"
        self.authority.mkdir()

    def start_navarch(self) -> None:
        """Start navarch with a root of its own and the lab's issuer of tokens."""
        assert self._network is not None
        command = [sys.executable, "-m", "navarch", "serve", "--config-dir", str(self.mesh_dir)]
        command += ["--grpc-address", "127.0.0.1:15010", "--drain-seconds", "1"]
        command += ["--http-address", f"{network.NODE_IP}:{_HTTP_PORT}"]
        command += ["--secure-grpc-address", SECURE, "--authority-dir", str(self.authority)]
        command += ["--server-name", network.NODE_IP]
        command += ["--oidc-issuer", ISSUER, "istio-ca", str(self._issuer.jwks), *self.serve_flags]
        self._run("navarch", self._network.node, command)
        self.wait(lambda: self.ask_navarch("/ready").status == 200, "navarch is ready", 40)

    def _start_envoy(self, pod: meshes.Pod) -> None:
        home = self.dir / pod.name
        home.mkdir(exist_ok=True)
        os.chown(home, network.PROXY_UID, network.PROXY_UID)
        token = home / "token"
        token.write_text(self._issuer.issue(pod.account))
        root = home / "root-cert.pem"
        shutil.copy(self.authority / "root-cert.pem", root)
        for file in (token, root):
            file.chmod(0o644)
        proxy = {"discoveryAddress": SECURE, "binaryPath": str(self._envoy), "concurrency": 1}
        proxy["proxyStatsMatcher"] = {"inclusionRegexps": [r".*ssl\.handshake"]}
        if pod.has_virtual_hosts_apart:
            proxy["proxyMetadata"] = {"NAVARCH_VHDS": "true"}
        told = {
            "POD_NAME": pod.name,
            "POD_NAMESPACE": meshes.NAMESPACE,
            "INSTANCE_IP": pod.ip,
            "SERVICE_ACCOUNT": pod.account,
            "PROXY_CONFIG": json.dumps(proxy),
            "ISTIO_METAJSON_LABELS": json.dumps(pod.labels),
            "ISTIO_META_DNS_CAPTURE": str(pod.proxy == "sidecar").lower(),
            "ISTIO_PROMETHEUS_ANNOTATIONS": json.dumps(
                {"scrape": "true", "path": "/", "port": "8080"}
            ),
        }
        pairs = [f"{key}={value}" for key, value in (told | dict(self._environment)).items()]
        command = ["env", f"--chdir={home}", *pairs, str(self._agent), "proxy", pod.proxy]
        command += ["--token-file", str(token), "--root-cert-file", str(root)]
        namespace = self._namespaces[pod.name]
        self._run(f"{pod.name}-envoy", namespace, command, network.PROXY_UID)

    def ask_agent(self, pod: str, path: str, port: int = STATUS_PORT) -> client.Reply:
        """Ask a pod's agent, or through its Envoy, from the pod itself."""
        return self._namespaces[pod].submit(client.get, "127.0.0.1", port, path, {}).result()

    def is_live(self, pod: str) -> bool:
        """Whether a pod's readiness probe succeeds, asked through Envoy."""
        return self.ask_agent(pod, "/healthz/ready", READY_PORT).status == 200

    def serial(self, pod: str) -> str:
        """Return the number of the certificate that a pod's Envoy shows."""
        told: Any = json.loads(self.ask_sidecar(pod, "/certs").body)
        chains = [each["cert_chain"][0] for each in told["certificates"] if each.get("cert_chain")]
        own = [each["serial_number"] for each in chains if each["subject_alt_names"]]
        return str(own[0]) if own else ""

    def wait_renewed(self, pod: str, before: str, seconds: float = 30) -> str:
        """Wait until a pod's Envoy shows another certificate; return its number."""
        is_other = functools.partial(lambda: self.serial(pod) not in ("", before))
        self.wait(is_other, f"{pod} has a new certificate", seconds)
        return self.serial(pod)

    def stop_agent(self, pod: str) -> int:
        """Send SIGTERM to a pod's agent alone, as the kubelet does; return its exit code."""
        return self._processes.pop(f"{pod}-envoy").stop()

    def tell_agent_to_end(self, pod: str) -> processes.Process:
        """Send SIGTERM to a pod's agent alone; return it, which is then the caller's to wait for."""
        agent = self._processes.pop(f"{pod}-envoy")
        agent.send(signal.SIGTERM)
        return agent

    def resident_kib(self, pod: str) -> int:
        """Return how much memory a pod's agent has resident."""
        wanted = f"--token-file\0{self.dir / pod / 'token'}"
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_text()
                status = (process / "status").read_text()
            except OSError:
                continue
            if wanted in words and words.startswith(str(self._agent)):
                found = re.search(r"VmRSS:\s+(\d+) kB", status)
                return int(found[1]) if found else 0
        return 0

    def log(self, pod: str) -> str:
        """Return all that a pod's agent and Envoy have said."""
        return (self.dir / f"{pod}-envoy.log").read_text(errors="replace")
