"""The flags of the authenticated port, and of the keys of token issuers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from navarch import errors, settings

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH: Final = click.Path(path_type=Path)

_OPTIONS: Final = (
    click.option(
        "--secure-grpc-address",
        "address",
        envvar="NAVARCH_SECURE_GRPC_ADDRESS",
        help="Where ADS and certificates are served over TLS, to callers that prove who they are; such as :15012.",
    ),
    click.option(
        "--authority-dir",
        type=_PATH,
        envvar="NAVARCH_AUTHORITY_DIR",
        help="Directory of the certificate authority (ca-cert.pem, ca-key.pem, …), watched; an empty one gets a root.",
    ),
    click.option(
        "--server-name",
        "server_names",
        multiple=True,
        envvar="NAVARCH_SERVER_NAME",
        help="DNS name or address in the server's certificate. Repeatable.",
    ),
    click.option(
        "--root-key",
        type=click.Choice(["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-4096"]),
        default="ecdsa-p256",
        show_default=True,
        envvar="NAVARCH_ROOT_KEY",
        help="Key of a root that is made.",
    ),
    click.option(
        "--certificate-seconds",
        type=click.IntRange(1),
        default=24 * 3600,
        show_default=True,
        envvar="NAVARCH_CERTIFICATE_SECONDS",
        help="Life of a workload's certificate that asks for none.",
    ),
    click.option(
        "--max-certificate-seconds",
        type=click.IntRange(1),
        default=90 * 24 * 3600,
        show_default=True,
        envvar="NAVARCH_MAX_CERTIFICATE_SECONDS",
        help="A workload that asks for a longer life is refused.",
    ),
    click.option(
        "--join-token-dir",
        type=_PATH,
        envvar="NAVARCH_JOIN_TOKEN_DIR",
        help="Directory of the records of join tokens (`navarch join-token`).",
    ),
    click.option(
        "--oidc-issuer",
        "issuers",
        multiple=True,
        metavar="ISSUER AUDIENCE JWKS_FILE",
        type=(str, str, _PATH),
        help="Take tokens of this issuer for this audience, verified by these keys. Repeatable.",
    ),
    click.option(
        "--revocations",
        type=_PATH,
        envvar="NAVARCH_REVOCATIONS",
        help="File of who gets nothing, watched: lines of NAMESPACE or NAMESPACE/SERVICE-ACCOUNT.",
    ),
    click.option(
        "--requests-per-second",
        type=click.IntRange(0),
        default=500,
        show_default=True,
        envvar="NAVARCH_REQUESTS_PER_SECOND",
        help="How often one service account may ask for a stream or a certificate; 0 for no limit.",
    ),
)


_KEY_OPTION: Final = click.option(
    "--blocked-key-address",
    "blocked_key_addresses",
    multiple=True,
    default=settings.BLOCKED_KEY_ADDRESSES,
    show_default=True,
    # The second is Istio's.
    envvar=["NAVARCH_BLOCKED_KEY_ADDRESS", "BLOCKED_CIDRS_IN_JWKS_URIS"],
    help="Network where no keys of token issuers are fetched (jwksUri); several with commas. Repeatable.",
)


def identity_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags to a command."""
    for option in reversed((*_OPTIONS, _KEY_OPTION)):
        command = option(command)
    return command


def read_identity(flags: dict[str, Any]) -> settings.Identity | None:
    """Take the flags out of all of a command's; None leaves the port closed.

    Raises:
        errors.SettingsError: A flag can't be used, or another is missing beside it.
    """
    names = [field.name for field in dataclasses.fields(settings.Identity)]
    told = {name: flags.pop(name) for name in names}
    if told["address"] is None:
        return None
    if told["authority_dir"] is None:
        raise errors.SettingsError("--secure-grpc-address needs --authority-dir")
    told["address"] = settings.Address.parse(told["address"], "--secure-grpc-address")
    told["issuers"] = tuple(settings.Issuer(*each) for each in told["issuers"])
    return settings.Identity(**told)
