"""The webhooks' certificate: renewed in time, served to new connections, its roots published."""

from __future__ import annotations

import http.client
import shutil
import ssl
from pathlib import Path

import pytest

from navarch import errors, settings
from navarch.webhooks import certificates, injector, server, settings_file
from tests.unit.webhooks import conftest


class WallClock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Published:
    def __init__(self) -> None:
        self.roots: list[str] = []

    def publish_roots(self, pem: str) -> None:
        self.roots.append(pem)


def subject_served(port: int, roots: Path) -> str:
    pem = ssl.get_server_certificate(("127.0.0.1", port), ca_certs=str(roots))
    return pem.strip()


def test_a_certificate_is_renewed_at_half_its_life_and_served_at_once(tmp_path: Path) -> None:
    conftest.make_certificate(tmp_path / "one", "one")
    conftest.make_certificate(tmp_path / "two", "two")
    live = tmp_path / "live"
    shutil.copytree(tmp_path / "one", live)
    clock, published = WallClock(), Published()
    issuer = certificates.FileIssuer(live, clock)
    keeper = certificates.Keeper(issuer, ["localhost"], published, clock)
    pods = injector.Injector(settings_file.SettingsFile(None))
    made = server.WebhookServer(settings.Address("127.0.0.1", 0), lambda: keeper.context, pods)
    try:
        one = (tmp_path / "one" / "tls.crt").read_text().strip()
        two = (tmp_path / "two" / "tls.crt").read_text().strip()
        assert subject_served(made.address.port, tmp_path / "one" / "ca.crt") == one
        shutil.copytree(tmp_path / "two", live, dirs_exist_ok=True)
        keeper.look()
        assert keeper.n_issued == 1
        clock.now += 301
        keeper.look()
        assert keeper.n_issued == 2
        assert subject_served(made.address.port, tmp_path / "two" / "ca.crt") == two
        assert [root.strip() for root in published.roots] == [two, two]
    finally:
        made.close()


def test_what_cant_be_renewed_leaves_the_certificate_in_use(tmp_path: Path) -> None:
    conftest.make_certificate(tmp_path)
    clock = WallClock()
    keeper = certificates.Keeper(
        certificates.FileIssuer(tmp_path, clock), ["localhost"], None, clock
    )
    in_use = keeper.context
    clock.now += 301
    (tmp_path / "tls.key").write_text("none")
    with pytest.raises(errors.SettingsError, match="certificate"):
        keeper.look()
    assert keeper.context is in_use
    conftest.make_certificate(tmp_path)
    keeper.look()
    assert keeper.context is not in_use


def test_a_server_that_closes_ends_the_connections_that_are_kept(tmp_path: Path) -> None:
    conftest.make_certificate(tmp_path)
    keeper = certificates.Keeper(certificates.FileIssuer(tmp_path), ["localhost"])
    pods = injector.Injector(settings_file.SettingsFile(None))
    made = server.WebhookServer(settings.Address("127.0.0.1", 0), lambda: keeper.context, pods)
    kept = conftest.Webhooks(made, pods, keeper, tmp_path).connect()
    kept.request("GET", "/ready")
    assert kept.getresponse().read() == b"ok\n"
    made.close()

    def ask_again() -> None:
        kept.request("GET", "/ready")
        kept.getresponse()

    with pytest.raises((ConnectionError, ssl.SSLError, http.client.RemoteDisconnected)):
        ask_again()
    kept.close()


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(errors.SettingsError, match=r"--webhook-certificates .*tls\.crt"):
        certificates.Keeper(certificates.FileIssuer(tmp_path), ["localhost"])


def test_settings_are_read_anew_and_the_last_valid_ones_stay(tmp_path: Path) -> None:
    clock, path = WallClock(), tmp_path / "settings.yaml"
    path.write_text("policy: disabled")
    held = settings_file.SettingsFile(path, clock)
    assert held.current().policy == "disabled"
    for text, policy in (
        ("policy: enabled", "enabled"),
        ("policy: perhaps", "enabled"),
        ("[", "enabled"),
        ("policy: disabled", "disabled"),
    ):
        path.write_text(text)
        clock.now += settings_file.LOOK_SECONDS + 1
        assert held.current().policy == policy
    path.unlink()
    clock.now += settings_file.LOOK_SECONDS + 1
    assert held.current().policy == "disabled"
    with pytest.raises(errors.SettingsError, match="--injection-settings"):
        settings_file.SettingsFile(path)
