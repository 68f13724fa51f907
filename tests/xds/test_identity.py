"""Who is let in at the authenticated port, as whom, and until when."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from navarch import core
from tests.xds import identity, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.extension

OWN = "URI:spiffe://cluster.local/ns/shop/sa/web"


@pytest.fixture
def serve() -> Iterator[Callable[..., identity.Port]]:
    """Open authenticated ports."""
    opened: list[identity.Port] = []

    def open_one(**options: Any) -> identity.Port:
        opened.append(identity.Port(core.SecureOptions(server_names=[], **options)))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def port(serve: Callable[..., identity.Port]) -> identity.Port:
    """Open a port with the defaults."""
    return serve()


def refused(port: identity.Port, *args: Any, **fields: Any) -> tuple[grpc.StatusCode, str]:
    """Ask for a certificate that must not be given; return the status."""
    fields.setdefault("csr", identity.make_request(identity.make_key()))
    with pytest.raises(grpc.RpcError) as error:
        port.create(*args, **fields)
    return identity.code(error), str(error.value.details())


def ended(opened: stream.Stream) -> stream.StreamEnded:
    """Wait for the end of a stream."""
    while True:
        try:
            opened.receive()
        except stream.StreamEnded as end:
            return end


def test_a_token_gives_its_own_identity_whatever_the_request_says(port: identity.Port) -> None:
    """The request asks for an administrator's name, a DNS name and an authority's rights; it gets none of them."""
    credential = port.enrol(port.platform.add())
    assert identity.uris(credential.chain).strip() == OWN
    told = identity.openssl("x509", "-noout", "-text", told=credential.chain).decode()
    assert "CA:TRUE" not in told
    assert "admin" not in told


def test_a_certificate_is_renewed_by_itself_and_opens_streams(port: identity.Port) -> None:
    credential = port.enrol(port.platform.add())
    request = identity.make_request(credential.key)
    chain = port.create(credential=credential, csr=request)
    assert identity.uris(chain[0]).strip() == OWN
    renewed = identity.Credential("".join(chain[:-1]), credential.key)
    with port.open(stream.DELTA, credential=renewed) as opened:
        opened.send("CDS", ["*"])
        assert opened.expect("CDS").resources


@pytest.mark.parametrize("form", [stream.SOTW, stream.DELTA])
def test_a_token_opens_a_stream_of_its_own_node_alone(port: identity.Port, form: str) -> None:
    token = port.platform.add()
    with port.open(form, token) as opened:
        opened.send("CDS", ["*"])
        assert opened.expect("CDS").resources
    for key, other in (("NAMESPACE", "bank"), ("SERVICE_ACCOUNT", "admin")):
        node: dict[str, Any] = {key: other}
        with port.open(form, token, **node) as opened:
            opened.send("CDS", ["*"])
            assert ended(opened).code is grpc.StatusCode.PERMISSION_DENIED
    assert port.mesh.n_connected() == 0


def test_tokens_that_are_not_good_are_refused(port: identity.Port) -> None:
    platform = port.platform
    gone = platform.add()
    platform.tokens.clear()  # the platform has deleted its service account
    cases = {
        platform.add(audience="https://kubernetes.default.svc"): "meant for",
        platform.add(lifetime=-1): "expired",
        gone: "no such token",
        identity.token().partition(".")[0]: "no expiry",
        "x" * 20_000: "too long",
        "": "authorization",
    }
    for token, words in cases.items():
        status, told = refused(port, token)
        assert status is grpc.StatusCode.UNAUTHENTICATED
        assert words in told
        assert not token or token not in told
        with port.open(stream.DELTA, token) as opened:
            opened.send("CDS", ["*"])
            assert ended(opened).code is grpc.StatusCode.UNAUTHENTICATED


def test_the_platform_is_asked_once_in_a_short_while(port: identity.Port) -> None:
    token = port.platform.add()
    for _ in range(3):
        port.enrol(token)
    assert port.platform.n_asked == 1


def test_a_stream_ends_with_its_token(port: identity.Port) -> None:
    with port.open(stream.DELTA, port.platform.add(lifetime=2)) as opened:
        opened.send("CDS", ["*"])
        opened.expect("CDS")
        end = ended(opened)
    assert end.code is grpc.StatusCode.UNAUTHENTICATED
    assert "expired" in end.words


def test_certificates_of_others_are_refused(port: identity.Port) -> None:
    """One that another authority signed fails in TLS, one of another trust domain at the gate."""
    own = port.enrol(port.platform.add())
    other = identity.Port()
    stranger = other.enrol(other.platform.add())
    other.close()
    assert refused(port, credential=stranger)[0] is grpc.StatusCode.UNAVAILABLE
    mixed = dataclasses.replace(stranger, chain=own.chain)
    with pytest.raises((grpc.RpcError, ValueError)):
        port.create(credential=mixed, csr=identity.make_request(own.key))


def test_another_trust_domain_is_none_of_ours(serve: Callable[..., identity.Port]) -> None:
    port = serve(trust_domains=["example.org", "old.example.org"])
    credential = port.enrol(port.platform.add())
    assert "spiffe://example.org/ns/shop/sa/web" in identity.uris(credential.chain)
    former = identity.Port(core.SecureOptions(server_names=[], trust_domains=["cluster.local"]))
    former.replace(port.files)
    foreign = former.enrol(former.platform.add())
    former.close()
    assert refused(port, credential=foreign)[0] is grpc.StatusCode.UNAUTHENTICATED


def test_nobody_is_given_another_identity_by_asking(port: identity.Port) -> None:
    token = port.platform.add()
    victim = "spiffe://cluster.local/ns/bank/sa/vault"
    status, _ = refused(port, token, metadata={"ImpersonatedIdentity": victim})
    assert status is grpc.StatusCode.UNAUTHENTICATED
    status, _ = refused(port, token, metadata={"CertSigner": "other"})
    assert status is grpc.StatusCode.INVALID_ARGUMENT


def test_requests_that_can_not_be_signed_are_told_why(port: identity.Port) -> None:
    token = port.platform.add()
    for fields in ({"csr": "nothing"}, {"validity_duration": 10**9}, {"validity_duration": -1}):
        assert refused(port, token, **fields)[0] is grpc.StatusCode.INVALID_ARGUMENT
    weak = identity.openssl("genrsa", "1024").decode()
    status, told = refused(port, token, csr=identity.make_request(weak))
    assert (status, "1024 bits" in told) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_a_join_token_is_good_for_one_certificate(
    serve: Callable[..., identity.Port], tmp_path: Path
) -> None:
    port = serve(join_directory=tmp_path)
    token = core.mint_join_token(tmp_path, "shop", "web", 60)
    with port.open(stream.DELTA, token) as opened:
        opened.send("CDS", ["*"])
        assert ended(opened).code is grpc.StatusCode.UNAUTHENTICATED
    credential = port.enrol(token)
    assert identity.uris(credential.chain).strip() == OWN
    assert refused(port, token)[0] is grpc.StatusCode.UNAUTHENTICATED
    assert "was used" in refused(port, token)[1]
    port.create(credential=credential, csr=identity.make_request(credential.key))
    late = core.mint_join_token(tmp_path, "shop", "web", 0)
    assert "expired" in refused(port, late)[1]


def test_revoked_callers_lose_their_streams_and_get_nothing(port: identity.Port) -> None:
    web, other = port.platform.add(), port.platform.add("other")
    credential = port.enrol(web)
    with (
        port.open(stream.DELTA, credential=credential) as opened,
        port.open(stream.DELTA, other, SERVICE_ACCOUNT="other") as kept,
    ):
        for each in (opened, kept):
            each.send("CDS", ["*"])
            each.expect("CDS")
        port.mesh.core.revoke([("shop", "web")])
        assert ended(opened).code is grpc.StatusCode.PERMISSION_DENIED
        assert refused(port, credential=credential)[0] is grpc.StatusCode.PERMISSION_DENIED
        assert refused(port, web)[0] is grpc.StatusCode.PERMISSION_DENIED
        kept.expect_quiet()
        port.mesh.core.revoke([("shop", None)])
        assert ended(kept).code is grpc.StatusCode.PERMISSION_DENIED
    port.mesh.core.revoke([])
    port.enrol(web)


def test_a_root_is_replaced_without_a_failed_call(port: identity.Port) -> None:
    """Both roots are trusted, then the next signs, then the former goes: each caller gets in at each stage."""
    token = port.platform.add()
    former = port.enrol(token)
    old_roots = port.authority.root_bundle()
    following = core.make_authority_files(core.AuthorityOptions(root_key="rsa-2048"))
    both = port.files["root-cert.pem"] + following["root-cert.pem"]
    roots = both.decode()

    port.replace(port.files | {"root-cert.pem": both})
    announced = port.enrol(token, roots=old_roots)
    port.replace(following | {"root-cert.pem": both})
    renewed = port.enrol(token, roots=roots)
    for credential in (former, announced, renewed):
        with port.open(stream.DELTA, credential=credential, roots=roots) as opened:
            opened.send("CDS", ["*"])
            assert opened.expect("CDS").resources
    port.replace(following)
    with port.open(stream.DELTA, credential=renewed) as opened:
        opened.send("CDS", ["*"])
        assert opened.expect("CDS").resources
    assert refused(port, credential=former)[0] is grpc.StatusCode.UNAVAILABLE


def issuer(tmp_path: Path) -> tuple[core.Issuer, Callable[..., str]]:
    """Make an issuer with an RSA key, and what signs its tokens."""
    key = tmp_path / "issuer.pem"
    key.write_bytes(identity.openssl("genrsa", "2048"))
    modulus = identity.openssl("rsa", "-in", str(key), "-noout", "-modulus").decode()
    n = bytes.fromhex(modulus.partition("=")[2].strip())
    jwk = {"kty": "RSA", "kid": "1", "n": identity.encode(n), "e": "AQAB", "alg": "RS256"}

    def sign(header: dict[str, str] | None = None, **claims: Any) -> str:
        own = {
            "iss": "https://issuer.example",
            "aud": "mesh",
            "sub": "system:serviceaccount:shop:web",
            "exp": int(time.time()) + 600,
        }
        parts = (header or {"alg": "RS256", "kid": "1"}, own | claims)
        text = ".".join(identity.encode(dict(part)) for part in parts)
        signed = identity.openssl("dgst", "-sha256", "-sign", str(key), told=text)
        return f"{text}.{identity.encode(signed)}"

    return core.Issuer("https://issuer.example", ["mesh"], {"keys": [jwk]}), sign


def test_tokens_of_an_issuer_are_verified_by_its_keys(
    serve: Callable[..., identity.Port], tmp_path: Path
) -> None:
    told, sign = issuer(tmp_path)
    port = serve(issuers=[told])
    assert identity.uris(port.enrol(sign()).chain).strip() == OWN
    good = sign()
    header, claims, signature = good.split(".")
    other_claims = sign(sub="system:serviceaccount:bank:vault").split(".")[1]
    cases = [
        sign(aud="other"),
        sign(exp=int(time.time()) - 120),
        sign(nbf=int(time.time()) + 3600),
        sign(sub="shop/web"),
        sign(sub="system:serviceaccount:shop:web/../admin"),
        f"{header}.{other_claims}.{signature}",
        f"{header}.{claims}.",
        f"{identity.encode({'alg': 'none'})}.{claims}.",
        f"{identity.encode({'alg': 'HS256', 'kid': '1'})}.{claims}.{signature}",
        sign({"alg": "RS256", "kid": "2"}),
    ]
    for token in cases:
        assert refused(port, token)[0] is grpc.StatusCode.UNAUTHENTICATED
    assert port.platform.n_asked == 0, "no token of an issuer is shown to the platform"
