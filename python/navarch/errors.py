"""The exceptions of navarch, one tree.

NavarchError
├── SettingsError     a flag, environment variable or settings file that can't be used
├── SourceError       a platform that can't be read (`is_retryable` says whether to try again)
│   └── ApiError          an API server's refusal, with its status code
├── RefusedError      a platform has looked at a caller's token and does not take it
├── CrdError          an object that is no valid instance of its kind, with all its faults
└── CoreError         the Rust core refused a call or failed (a bug of ours, or one of these)
    ├── AuthorityError    a certificate authority's files that can't be used, or a certificate that is refused
    ├── BindError         an address that can't be listened on
    ├── NodeError         an Envoy node that can't be read
    ├── RequestError      a request to simulate that can't be made sense of
    └── UnknownProxyError a proxy that is not connected

Libraries' exceptions are wrapped where the library is called (`raise … from`), so that nothing above
knows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from navarch import records


class NavarchError(Exception):
    """Root of all that navarch raises on purpose."""


class SettingsError(NavarchError):
    """A setting that can't be used; the message names the flag and the remedy."""


class SourceError(NavarchError):
    """A platform that can't be read just now, or at all.

    Attributes:
        is_retryable: Whether the same call may succeed later.
    """

    def __init__(self, message: str, *, is_retryable: bool) -> None:
        super().__init__(message)
        self.is_retryable = is_retryable


class ApiError(SourceError):
    """An API server's refusal.

    Attributes:
        status: HTTP's status code.
        retry_after_seconds: When the server wants to be asked again, if it says.
    """

    def __init__(
        self, message: str, *, status: int, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message, is_retryable=True)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class RefusedError(NavarchError):
    """A platform has looked at a caller's token and does not take it; the message says why, and not the token."""


class CrdError(NavarchError):
    """An object that is no valid instance of its kind.

    Attributes:
        diagnostics: Every fault found, at least one, each with its field path.
    """

    def __init__(self, diagnostics: Sequence[records.Diagnostic]) -> None:
        super().__init__("; ".join(str(d) for d in diagnostics))
        self.diagnostics = tuple(diagnostics)


class CoreError(NavarchError):
    """The Rust core refused a call or failed."""


class AuthorityError(CoreError):
    """A certificate authority's files can't be used, or a certificate is refused; the message says why."""


class BindError(CoreError):
    """The core can't listen on an address."""


class NodeError(CoreError):
    """A node is no JSON of Envoy's Node message, or lacks what every proxy has."""


class RequestError(CoreError):
    """A request to simulate that can't be made sense of; the message names the flag or field."""


class UnknownProxyError(CoreError):
    """No proxy of that id is connected."""
