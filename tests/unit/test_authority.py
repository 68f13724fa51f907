"""The certificate authority at Python's door, judged by openssl."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from navarch import core, errors
from tests import desk

pytestmark = pytest.mark.extension


def openssl(*arguments: str, told: str = "") -> str:
    program = desk.find_program("openssl")
    done = subprocess.run(
        [program, *arguments], input=told, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout


def verify(server: core.ServerCertificate, authority: core.Authority, at: Path) -> str:
    (at / "chain.pem").write_text(server.chain_pem)
    (at / "roots.pem").write_text(authority.root_bundle())
    chain, roots = str(at / "chain.pem"), str(at / "roots.pem")
    return openssl("verify", "-purpose", "sslserver", "-CAfile", roots, "-untrusted", chain, chain)


@pytest.mark.parametrize("root_key", ["ecdsa-p256", "ecdsa-p384", "rsa-2048"])
def test_a_server_certificate_is_what_openssl_takes(root_key: str, tmp_path: Path) -> None:
    options = core.AuthorityOptions(trust_domain="example.org", root_key=root_key)
    authority = core.Authority(core.make_authority_files(options), options)
    server = authority.issue_server(["navarch.navarch.svc", "127.0.0.1"], lifetime_seconds=600)
    assert verify(server, authority, tmp_path).endswith(": OK\n")
    names = openssl("x509", "-noout", "-ext", "subjectAltName", told=server.chain_pem)
    assert "DNS:navarch.navarch.svc, IP Address:127.0.0.1" in names
    assert abs(server.expires_at - time.time() - 600) < 60
    assert server.key_pem not in repr(server)
    public = openssl("pkey", "-pubout", told=server.key_pem)
    assert openssl("x509", "-noout", "-pubkey", told=server.chain_pem) == public


@pytest.mark.parametrize(
    "key",
    [
        ("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
        ("genrsa", "-traditional", "2048"),
        ("ecparam", "-name", "prime256v1", "-genkey", "-noout"),
        ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
        ("genpkey", "-algorithm", "ED25519"),
    ],
)
def test_an_intermediate_of_openssl_is_plugged_in(key: tuple[str, ...], tmp_path: Path) -> None:
    """Every form of key that operators have (PKCS#8, PKCS#1, SEC1) signs."""
    for name in ("root", "ca"):
        (tmp_path / f"{name}-key.pem").write_text(openssl(*key))
    request = ("req", "-new", "-addext", "basicConstraints=critical,CA:TRUE")
    by_root = ("-days", "30", "-copy_extensions", "copy")
    root_key, ca_key = str(tmp_path / "root-key.pem"), str(tmp_path / "ca-key.pem")
    root, ca = tmp_path / "root-cert.pem", tmp_path / "ca-cert.pem"
    root.write_text(
        openssl(*request, "-x509", "-days", "90", "-key", root_key, "-subj", "/O=Roots/CN=Root")
    )
    csr = openssl(*request, "-key", ca_key, "-subj", "/C=DE/O=Mesh/OU=Authority/CN=Intermediate")
    signed = ("x509", "-req", *by_root, "-CA", str(root), "-CAkey", root_key, "-CAcreateserial")
    ca.write_text(openssl(*signed, told=csr))
    (tmp_path / "cert-chain.pem").write_text(ca.read_text())

    files = core.find_authority_files(tmp_path)
    assert files is not None
    authority = core.Authority(files)
    assert verify(authority.issue_server(["a.b"]), authority, tmp_path).endswith(": OK\n")

    secret = {"tls.crt": ca.read_bytes(), "tls.key": Path(ca_key).read_bytes()}
    secret["ca.crt"] = root.read_bytes()
    assert core.Authority(secret).root_bundle() == authority.root_bundle()


def test_a_made_root_is_kept_and_renewed(tmp_path: Path) -> None:
    assert core.find_authority_files(tmp_path / "none") is None
    core.write_authority_files(tmp_path / "kept", core.make_authority_files())
    kept = core.find_authority_files(tmp_path / "kept")
    assert kept is not None
    authority = core.Authority(kept)
    server = authority.issue_server(["a.b"])
    authority.replace(core.renew_authority_files(kept))
    assert authority.root_bundle().count("BEGIN CERTIFICATE") == 2
    assert verify(server, authority, tmp_path).endswith(": OK\n")


def test_what_can_not_be_used_is_told() -> None:
    with pytest.raises(errors.AuthorityError, match=r"ca-cert\.pem is missing"):
        core.Authority({})
    with pytest.raises(errors.AuthorityError, match="`dsa` is no kind of key"):
        core.make_authority_files(core.AuthorityOptions(root_key="dsa"))
    with pytest.raises(errors.AuthorityError, match="`a b` is no DNS name"):
        core.Authority(core.make_authority_files()).issue_server(["a b"])
