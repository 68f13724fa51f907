"""Which secrets a proxy is given at the authenticated port: those that it may read, as soon as they change."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from navarch import core, records
from tests.xds import identity, mesh, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.extension

GATEWAY: Final = "gateway"
KEY: Final = "k3y-0f-the-gateway"
TLS: Final = {"tls.crt": "certificate", "tls.key": KEY, "ca.crt": "anchors", "ca.crl": "revoked"}
HIDDEN: Final = "k3y-0f-an0ther-tenant"


@pytest.fixture
def port() -> Iterator[identity.Port]:
    """Open a port whose platform lets the gateway read Secrets."""
    opened = identity.Port()
    opened.platform.readers.add((identity.NAMESPACE, GATEWAY))
    put(opened, "Secret", "bank", "vault", secret({"tls.crt": "x", "tls.key": HIDDEN}))
    put(opened, "Secret", identity.NAMESPACE, "front", secret(TLS))
    yield opened
    opened.close()


def secret(data: dict[str, str]) -> dict[str, Any]:
    """Write the data of a Secret."""
    return {"data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}}


def put(port: identity.Port, kind: str, namespace: str, name: str, rest: dict[str, Any]) -> None:
    """Make or replace an object."""
    key = records.SourceKey(kind, namespace, name)
    body = {"metadata": {"name": name, "namespace": namespace}, **rest}
    port.mesh.core.apply([records.Change(key, json.dumps(body).encode())])


@dataclasses.dataclass
class Asker:
    """A proxy that asks for secrets, and what it has got of each."""

    opened: stream.Stream
    nonce: str = ""

    def ask(self, *names: str) -> dict[str, tuple[bytes, ...]]:
        """Ask for these names alone; return what the answer has."""
        self.opened.send("SDS", names, nonce=self.nonce)
        return self.take()

    def take(self) -> dict[str, tuple[bytes, ...]]:
        """Take the next answer."""
        got = self.opened.expect("SDS")
        self.nonce = got.nonce
        return {name: read(made) for name, made in got.resources.items()}


def read(made: Any) -> tuple[bytes, ...]:
    """Return a secret's parts."""
    if made.HasField("tls_certificate"):
        pair = made.tls_certificate
        return (pair.certificate_chain.inline_bytes, pair.private_key.inline_bytes)
    anchors = made.validation_context
    return (anchors.trusted_ca.inline_bytes, anchors.crl.inline_bytes)


@contextlib.contextmanager
def asking(port: identity.Port, account: str = GATEWAY, kind: str = "router") -> Iterator[Asker]:
    """Open a stream of a gateway."""
    token = port.platform.add(account)
    with port.open(
        stream.SOTW, token, kind=kind, SERVICE_ACCOUNT=account, LABELS={"istio": "gateway"}
    ) as opened:
        yield Asker(opened)


def test_a_gateway_gets_the_secrets_of_its_namespace_and_their_changes(port: identity.Port) -> None:
    own, anchors = "kubernetes://front", "kubernetes://front-cacert"
    with asking(port) as asker:
        got = asker.ask(own, anchors)
        assert got == {own: (b"certificate", KEY.encode()), anchors: (b"anchors", b"revoked")}
        asker.opened.send("SDS", [own, anchors], nonce=asker.nonce, version="1")
        put(port, "Secret", identity.NAMESPACE, "front", secret(TLS | {"tls.crt": "renewed"}))
        assert asker.take()[own] == (b"renewed", KEY.encode())
        asker.opened.send("SDS", [own, anchors], nonce=asker.nonce, version="2")
        put(port, "Secret", identity.NAMESPACE, "other", secret(TLS))
        put(port, "Secret", identity.NAMESPACE, "front", {"data": {"tls.crt": "no base64 !"}})
        asker.opened.expect_quiet()


def test_generic_secrets_and_config_maps_are_read(port: identity.Port) -> None:
    generic = {"cert": "c", "key": "k", "cacert": "a"}
    put(port, "Secret", identity.NAMESPACE, "generic", secret(generic))
    put(port, "ConfigMap", "bank", "roots", {"data": {"ca.crt": "public"}})
    names = ("kubernetes://shop/generic", "configmap://bank/roots", "kubernetes://nothing")
    with asking(port) as asker:
        assert asker.ask(*names) == {names[0]: (b"c", b"k"), names[1]: (b"public", b"")}


@pytest.mark.parametrize(
    "name",
    [
        "kubernetes://bank/vault",
        "kubernetes://bank/vault-cacert",
        "kubernetes-gateway://bank/vault",
        "kubernetes-gateway://shop/front",
        "kubernetes://shop/../bank/vault",
        "configmap://bank/vault",
        "*",
    ],
)
def test_a_secret_that_is_not_the_callers_is_not_given(port: identity.Port, name: str) -> None:
    """Of another tenant, or of a Gateway that does not name it, whatever the spelling."""
    with asking(port) as asker:
        got = asker.ask(name, "kubernetes://front")
        assert set(got) <= {"kubernetes://front"}


def test_who_may_not_read_secrets_gets_trust_anchors_alone(port: identity.Port) -> None:
    own, anchors = "kubernetes://front", "kubernetes://front-cacert"
    with asking(port, "web", "sidecar") as asker:
        assert asker.ask(own, anchors) == {anchors: (b"anchors", b"revoked")}
    with port.open(stream.SOTW, port.platform.add()) as opened:
        opened.send("SDS", ["*"])
        assert not opened.expect("SDS").resources


def test_nobody_gets_a_secret_in_plaintext(port: identity.Port) -> None:
    node = mesh.NODE
    with stream.open_stream(port.mesh.address, stream.SOTW, node) as opened:
        opened.send("SDS", ["kubernetes://front", "kubernetes://shop/front"])
        assert not opened.expect("SDS").resources


def make_gateway(port: identity.Port, namespace: str, credential: str) -> None:
    """Make a Gateway of that namespace for the asking router."""
    tls = {"mode": "SIMPLE", "credentialName": credential}
    server = {"port": {"number": 8443, "name": "https", "protocol": "HTTPS"}, "hosts": ["*"]}
    spec = {"selector": {"istio": "gateway"}, "servers": [server | {"tls": tls}]}
    put(port, "Gateway", namespace, "front", {"spec": spec})


def test_a_gateway_may_name_what_it_is_granted_and_no_more(port: identity.Port) -> None:
    other = "kubernetes-gateway://bank/vault"
    with asking(port, "web") as asker:
        make_gateway(port, "shop", "kubernetes-gateway://shop/front")
        named = asker.ask("kubernetes-gateway://shop/front")
        assert named == {"kubernetes-gateway://shop/front": (b"certificate", KEY.encode())}
        make_gateway(port, "shop", other)
        asker.opened.send("SDS", [other], nonce=asker.nonce)
        asker.opened.expect_quiet()
        grant = {
            "from": [
                {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "shop"}
            ],
            "to": [{"group": "", "kind": "Secret", "name": "vault"}],
        }
        put(port, "ReferenceGrant", "bank", "g", {"spec": grant})
        assert asker.take() == {other: (b"x", HIDDEN.encode())}


def test_a_gateway_of_another_namespace_names_nothing_for_us(port: identity.Port) -> None:
    make_gateway(port, "bank", "kubernetes-gateway://shop/front")
    with asking(port, "web") as asker:
        assert asker.ask("kubernetes-gateway://shop/front") == {}


def test_keys_are_on_no_page(port: identity.Port) -> None:
    with asking(port) as asker:
        asker.ask("kubernetes://front")
        pages = [port.mesh.core.sync_status(), port.mesh.core.metrics().encode()]
        proxy = json.loads(pages[0])[0]["proxy"]
        pages.append(port.mesh.core.config_dump(proxy))
        told = [str(each).encode() for each in port.mesh.core.diagnostics()]
    for page in [*pages, *told]:
        for key in (KEY.encode(), HIDDEN.encode()):
            assert key not in page
            assert base64.b64encode(key) not in page


def test_without_a_platform_gateways_read_their_own_namespace() -> None:
    """As a lab from files has it: routers may, sidecars may not."""
    opened = identity.Port(core.SecureOptions(server_names=[]), has_reviewer=False)
    put(opened, "Secret", identity.NAMESPACE, "front", secret(TLS))
    try:
        for kind, got in (
            ("router", {"kubernetes://front": (b"certificate", KEY.encode())}),
            ("sidecar", {}),
        ):
            token = core.mint_join_token(opened.joins, identity.NAMESPACE, GATEWAY, 60)
            with opened.open(
                stream.SOTW, credential=opened.enrol(token), kind=kind, SERVICE_ACCOUNT=GATEWAY
            ) as raw:
                assert Asker(raw).ask("kubernetes://front") == got
    finally:
        opened.close()
