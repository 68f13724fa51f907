"""Whatever is replaced of a mesh's trust, under traffic: not one request is lost.

Each request between sidecars has a handshake of its own, so that it is judged by the trust of its moment.
"""

from __future__ import annotations

import base64
import functools
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import agents, client, meshes, network
from tests.lab.planned import Authority, Plan
from tests.lab.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(300)]

LIFE_SECONDS = 8
INGRESS = "10.77.4.1"
HOST = "shop.lab"
PODS = ("web-1", "server-1")
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
SIGNS = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")


def secret(name: str, **files: str) -> list[dict[str, Any]]:
    """Return a Secret of the gateway's namespace; `tls_crt` stands for `tls.crt`."""
    data = {
        key.replace("_", "."): base64.b64encode(text.encode()).decode()
        for key, text in files.items()
    }
    metadata = {"name": name, "namespace": meshes.NAMESPACE}
    return [{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}]


def plan() -> Plan:
    """Return a client, a server and a gateway, all with agents, and a pod that has none."""
    http = meshes.Port("http", 80, 8080)
    tls = [
        {"mode": "SIMPLE", "credentialName": "front"},
        {"mode": "MUTUAL", "credentialName": "known"},
    ]
    servers = [
        {
            "port": {"name": f"https-{number}", "number": number, "protocol": "HTTPS"},
            "hosts": [HOST],
            "tls": how,
        }
        for number, how in zip((443, 444), tls, strict=True)
    ]
    pool = {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}
    bound = {
        "hosts": [HOST],
        "gateways": ["ingress"],
        "http": [{"route": [{"destination": {"host": "server", "port": {"number": 80}}}]}],
    }
    return Plan(
        pods=(
            meshes.Pod("web-1", "10.77.1.1", "web", account="web", has_agent=True),
            meshes.Pod("server-1", "10.77.2.1", "server", account="server", has_agent=True),
            meshes.Pod("plain-1", "10.77.3.1", "plain", proxy="", has_redirection=False),
            meshes.Pod(
                "ingress-1",
                INGRESS,
                "ingress",
                proxy="router",
                workload=(),
                account="ingress",
                has_agent=True,
            ),
        ),
        services=(
            meshes.Service("server", "10.96.0.10", http),
            meshes.Service(
                "ingress",
                "10.96.0.20",
                meshes.Port("https", 443, 8443),
                more_ports=(meshes.Port("https-known", 444, 8444),),
            ),
        ),
        rules={
            "pool": [
                meshes.rule("DestinationRule", "server", {"host": "server", "trafficPolicy": pool})
            ],
            "strict": [
                {
                    "apiVersion": "security.istio.io/v1",
                    "kind": "PeerAuthentication",
                    "metadata": {"name": "strict", "namespace": meshes.NAMESPACE},
                    "spec": {"mtls": {"mode": "STRICT"}},
                }
            ],
            "gateway": [
                meshes.rule(
                    "Gateway", "ingress", {"selector": {"app": "ingress"}, "servers": servers}
                ),
                meshes.rule("VirtualService", "bound", bound),
            ],
        },
    )


@pytest.fixture(scope="module")
def stage() -> Iterator[agents.AgentStage]:
    """Start the mesh, once."""
    network.require()
    with agents.AgentStage(plan(), {"SECRET_TTL": f"{LIFE_SECONDS}s"}) as made:
        made.wait_for("server")
        yield made


class Root:
    """A root of the tests, as an operator makes one: its files and those of an intermediate that it signs."""

    def __init__(self, directory: Path, name: str, present: Path | None = None) -> None:
        """Make one, or take the one that is `present` as an authority's directory."""
        self._directory, self._name = directory, name
        self._certificate, self._key = directory / f"{name}.crt", directory / f"{name}.key"
        if present is None:
            files = ("-keyout", str(self._key), "-out", str(self._certificate))
            openssl("req", "-x509", *NEW_KEY, *files, "-days", "9", "-subj", f"/O={name}", *SIGNS)
        else:
            self._certificate.write_bytes((present / "ca-cert.pem").read_bytes())
            self._key.write_bytes((present / "ca-key.pem").read_bytes())

    @property
    def pem(self) -> str:
        """Return the certificate."""
        return self._certificate.read_text()

    def sign_intermediate(self, name: str) -> dict[str, str]:
        """Return the files of an intermediate, named as in Istio's `cacerts`, less the roots."""
        key, certificate = self._directory / f"{name}.key", self._directory / f"{name}.crt"
        signed_by = ("-CA", str(self._certificate), "-CAkey", str(self._key))
        files = ("-keyout", str(key), "-out", str(certificate))
        openssl(
            *("req", "-x509", *NEW_KEY, *signed_by, *files),
            *("-days", "5", "-subj", f"/O={self._name}/CN={name}", *SIGNS),
        )
        made = certificate.read_text()
        return {"ca-cert.pem": made, "cert-chain.pem": made, "ca-key.pem": key.read_text()}


def openssl(*words: str) -> bytes:
    """Run openssl."""
    return subprocess.run(["openssl", *words], check=True, capture_output=True).stdout


def write_authority(stage: agents.AgentStage, **files: str) -> None:
    """Replace files of the authority as an operator does, one after the other; `root_cert` is `root-cert.pem`."""
    for name, text in files.items():
        (stage.authority / f"{name.replace('_', '-')}.pem").write_text(text)


def certificates(stage: agents.AgentStage, pod: str) -> list[dict[str, Any]]:
    """Return what a pod's Envoy shows and trusts."""
    made: list[dict[str, Any]] = json.loads(stage.ask_sidecar(pod, "/certs").body)["certificates"]
    return made


def n_trusted(stage: agents.AgentStage, pod: str) -> int:
    """Return the most roots that any of a pod's validation contexts holds."""
    return max((len(each.get("ca_cert", ())) for each in certificates(stage, pod)), default=0)


def wait_all_renewed(stage: agents.AgentStage) -> None:
    """Wait until every pod has a certificate that was signed after this moment, twice: the first may be on its way."""
    for _ in range(2):
        before = {pod: stage.serial(pod) for pod in PODS}
        for pod, serial in before.items():
            stage.wait_renewed(pod, serial)


def between_sidecars(stage: agents.AgentStage) -> Traffic:
    """Return requests from the client's pod to the server."""
    return Traffic(lambda: stage.get("server"))


def test_an_intermediate_is_replaced_under_traffic(
    stage: agents.AgentStage, tmp_path: Path
) -> None:
    """The first intermediate of the mesh's own root, and then another."""
    root = Root(tmp_path, "own", stage.authority)
    with between_sidecars(stage):
        for name in ("first", "second"):
            made = root.sign_intermediate(name)
            write_authority(
                stage,
                root_cert=root.pem,
                ca_cert=made["ca-cert.pem"],
                cert_chain=made["cert-chain.pem"],
                ca_key=made["ca-key.pem"],
            )
            wait_all_renewed(stage)
    # The intermediates end before the root does.
    left = stage.metric("citadel_server_cert_chain_expiry_seconds")
    assert 0 < left < stage.metric("citadel_server_root_cert_expiry_seconds")


def test_a_root_is_replaced_under_traffic(stage: agents.AgentStage, tmp_path: Path) -> None:
    """The three steps of docs/security.md: both are trusted, the next signs, the former goes."""
    former = (stage.authority / "root-cert.pem").read_text()
    following = Root(tmp_path, "following")
    made = following.sign_intermediate("of-following")
    with between_sidecars(stage) as traffic:
        write_authority(stage, root_cert=former + following.pem)
        wait_all_renewed(stage)
        stage.wait(lambda: all(n_trusted(stage, pod) == 2 for pod in PODS), "both are trusted")
        write_authority(
            stage,
            ca_cert=made["ca-cert.pem"],
            cert_chain=made["cert-chain.pem"],
            ca_key=made["ca-key.pem"],
        )
        wait_all_renewed(stage)
        write_authority(stage, root_cert=following.pem)
        # The file beside the agent, in a cluster a ConfigMap that navarch keeps.
        for pod in (*PODS, "ingress-1"):
            (stage.dir / pod / "root-cert.pem").write_text(following.pem)
        wait_all_renewed(stage)
        stage.wait(lambda: all(n_trusted(stage, pod) == 1 for pod in PODS), "the former is gone")
    n_handshakes = stage.stat("server-1", "listener.0.0.0.0_15006.ssl.handshake")
    assert n_handshakes >= traffic.n_answered


def at_gateway(stage: agents.AgentStage, tls: client.Tls, port: int = 8443) -> client.Reply:
    """Ask the gateway by TLS, from a pod that has no sidecar."""
    return stage.ask(client.Request(HOST, ip=INGRESS, port=port, tls=tls), "plain-1")


def test_a_gateways_certificate_is_replaced_under_traffic(stage: agents.AgentStage) -> None:
    """A Secret is written anew, signed by another authority: clients that trust both lose nothing."""
    with Authority.made() as former, Authority.made() as following:
        both = former.directory / "both.crt"
        both.write_text(Path(former.ca_file).read_text() + Path(following.ca_file).read_text())
        both.chmod(0o644)

        def put(authority: Authority) -> None:
            certificate, key, _ = authority.issue(HOST)
            texts = {"tls_crt": Path(certificate).read_text(), "tls_key": Path(key).read_text()}
            stage.write("front.yaml", secret("front", **texts))

        def is_shown(authority: Authority) -> bool:
            return at_gateway(stage, client.Tls(HOST, authority.ca_file)).status == 200

        put(former)
        stage.wait(functools.partial(is_shown, former), "the gateway shows it", 40)
        with Traffic(lambda: at_gateway(stage, client.Tls(HOST, str(both)))):
            put(following)
            stage.wait(functools.partial(is_shown, following), "the gateway shows the next")
            assert not is_shown(former)
            put(former)
            stage.wait(functools.partial(is_shown, former), "and the former again")


def test_a_gateways_clients_are_judged_by_anchors_and_lists_that_change(
    stage: agents.AgentStage,
) -> None:
    """Trust anchors and a revocation list of a Secret are replaced; who stays trusted loses nothing."""
    with Authority.made() as former, Authority.made() as following:
        certificate, key, _ = former.issue(HOST)
        own = {"tls_crt": Path(certificate).read_text(), "tls_key": Path(key).read_text()}
        files = {name: former.issue(name)[2] for name in ("kept.lab", "revoked.lab")}
        files["new.lab"] = following.issue("new.lab")[2]

        def ask(name: str) -> client.Reply:
            return at_gateway(stage, client.Tls(HOST, former.ca_file, files[name]), 8444)

        def put(*anchors: Authority, crl: str = "") -> None:
            texts = own | {"ca_crt": "".join(Path(each.ca_file).read_text() for each in anchors)}
            stage.write("known.yaml", secret("known", **texts | ({"ca_crl": crl} if crl else {})))

        put(former)
        stage.wait(lambda: ask("kept.lab").status == 200, "the former is trusted", 40)
        assert ask("new.lab").status == 0
        with Traffic(lambda: ask("kept.lab")):
            put(former, following)
            stage.wait(lambda: ask("new.lab").status == 200, "both are trusted")
            assert ask("revoked.lab").status == 200
            put(former, crl=former.revoke("revoked.lab"))
            stage.wait(lambda: ask("revoked.lab").status == 0, "one is revoked")
            stage.wait(lambda: ask("new.lab").status == 0, "the second is gone")
