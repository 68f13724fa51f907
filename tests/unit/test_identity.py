"""The flags of the authenticated port, and what keeps the authority's directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from navarch import core, errors, settings
from navarch.identity import flags, keeper

LOOPBACK = settings.Address("127.0.0.1", 0)


def told(folder: Path, **fields: Any) -> settings.Identity:
    return settings.Identity(address=LOOPBACK, authority_dir=folder / "ca", **fields)


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", ":1", "192.0.2.1:1"])
def test_plaintext_off_loopback_must_be_switched_on(address: str, tmp_path: Path) -> None:
    where = settings.Address.parse(address, "--grpc-address")
    with pytest.raises(errors.SettingsError, match="--allow-plaintext"):
        settings.Settings(config_dirs=(tmp_path,), grpc_address=where)
    settings.Settings(config_dirs=(tmp_path,), grpc_address=where, allow_plaintext=True)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.77.0.1:1", "[::1]:1", "localhost:1"])
def test_plaintext_on_loopback_is_taken(address: str, tmp_path: Path) -> None:
    where = settings.Address.parse(address, "--grpc-address")
    settings.Settings(config_dirs=(tmp_path,), grpc_address=where)


def test_the_port_stays_closed_unless_it_is_asked_for(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "address": None, "authority_dir": None, "server_names": (), "root_key": "ecdsa-p256",
        "certificate_seconds": 60, "max_certificate_seconds": 60, "join_token_dir": None,
        "issuers": (), "revocations": None, "requests_per_second": 0, "other": 1,
    }  # fmt: skip
    rest = dict(given)
    assert flags.read_identity(rest) is None
    assert rest == {"other": 1}
    with pytest.raises(errors.SettingsError, match="--authority-dir"):
        flags.read_identity(given | {"address": ":15012"})
    with pytest.raises(errors.SettingsError, match="--certificate-seconds"):
        told(tmp_path, certificate_seconds=61, max_certificate_seconds=60)
    with pytest.raises(errors.SettingsError, match="--oidc-issuer https://a"):
        told(tmp_path, issuers=(settings.Issuer("https://a", "mesh", tmp_path / "none"),))


def test_lines_name_who_is_revoked() -> None:
    text = "# gone\nbank\n\nshop/web  # stolen\n"
    assert keeper.read_revocations(text) == [("bank", None), ("shop", "web")]


@pytest.mark.extension
def test_a_directory_is_made_read_again_and_never_half_taken(tmp_path: Path) -> None:
    revoked: list[list[tuple[str, str | None]]] = []
    (tmp_path / "revoked").write_text("bank\n")
    settings_ = told(tmp_path, revocations=tmp_path / "revoked")
    kept = keeper.Keeper(settings_, revoked.append)
    assert kept.revoked() == [("bank", None)]
    first = kept.authority.root_bundle()
    assert keeper.Keeper(settings_, revoked.append).authority.root_bundle() == first

    following = core.make_authority_files()
    (tmp_path / "ca" / "ca-key.pem").write_bytes(following["ca-key.pem"])
    kept.check()
    assert kept.authority.root_bundle() == first, "a key without its certificate is passed over"
    core.write_authority_files(tmp_path / "ca", following)
    kept.check()
    assert kept.authority.root_bundle() == following["root-cert.pem"].decode()

    kept.check_revocations()
    assert revoked == []
    (tmp_path / "revoked").write_text("shop/web\n")
    kept.check_revocations()
    assert revoked == [[("shop", "web")]]
