from __future__ import annotations

from pathlib import Path

import pytest

from navarch import errors, settings


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("127.0.0.1:15010", "127.0.0.1", 15010, "127.0.0.1:15010"),
        ("[::1]:0", "::1", 0, "[::1]:0"),
        (":8080", "0.0.0.0", 8080, "0.0.0.0:8080"),
        ("localhost:1", "localhost", 1, "localhost:1"),
    ],
)
def test_addresses(text: str, host: str, port: int, shown: str) -> None:
    made = settings.Address.parse(text, "--x")
    assert (made.host, made.port, str(made)) == (host, port, shown)


@pytest.mark.parametrize(
    "text", ["", "x", "127.0.0.1", "127.0.0.1:", "a:70000", "a:-1", "::1:80", "a:b"]
)
def test_what_is_no_address_is_refused_with_its_flag(text: str) -> None:
    with pytest.raises(errors.SettingsError, match="--x"):
        settings.Address.parse(text, "--x")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.SettingsError, match="nowhere"):
        settings.Settings(config_dirs=(tmp_path / "nowhere",))
    with pytest.raises(errors.SettingsError, match="--config-dir"):
        settings.Settings(config_dirs=())
    with pytest.raises(errors.SettingsError, match="--mesh-config"):
        settings.Settings(config_dirs=(tmp_path,), mesh_config=Path("/nonexistent"))
    with pytest.raises(errors.SettingsError, match="--mesh-networks"):
        settings.Settings(config_dirs=(tmp_path,), mesh_networks=tmp_path)


def test_blocked_networks_are_read_as_istio_writes_them(tmp_path: Path) -> None:
    told = settings.Settings(
        (tmp_path,), blocked_key_addresses=("10.0.0.0/8, 192.168.0.0/16", "::1")
    )
    assert [str(each) for each in told.blocked_key_networks] == [
        "10.0.0.0/8",
        "192.168.0.0/16",
        "::1/128",
    ]
    assert settings.Settings((tmp_path,), blocked_key_addresses=()).blocked_key_networks == ()
    with pytest.raises(errors.SettingsError, match="--blocked-key-address"):
        settings.Settings((tmp_path,), blocked_key_addresses=("10.0.0.1/8",))
