"""What the gateway asks of an HTTP client, and which one it takes.

Rules of this module
- A `Flight` is one request on the wire. Waiting is always bounded by the caller: `begin` and `read` come back when their time is
  over, so that whoever waits can look whether its own client is still there.
- An error's `detail` names host and reason; never headers, bodies or credentials.
- Redirects are not followed and proxies of the environment are not used: credentials go where the configuration says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

Cause = Literal["timeout", "connection", "malformed"]


class Call(NamedTuple):
    """A request: absolute URL, header pairs, body, seconds to connect within."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    connect_within: float
    method: str = "POST"


class UpstreamFailed(Exception):  # noqa: N818 - an event of an attempt, and no fault of the program
    """An upstream gave no usable answer. `connection` is refused, unreachable, reset, or closed before its answer's end."""

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(detail)
        self.cause: Cause = cause
        self.detail = detail


class Flight(Protocol):
    """One request on the wire. `status` and `headers` (lower-case names) are there once `begin` has returned True."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""

    def begin(self, within: float) -> bool:
        """Wait up to `within` seconds for status and headers; False where they aren't there yet. Raises UpstreamFailed."""

    def read(self, within: float) -> bytes | None:
        """What of the body has arrived; b"" at its end, None where nothing came within that many seconds. Raises UpstreamFailed."""

    def close(self) -> None:
        """The connection goes back to its pool where the body has ended, and is closed where it hasn't. May be called twice."""


class Transport(Protocol):
    """Sends requests. Safe to share between threads."""

    def open(self, call: Call) -> Flight:
        """Connect, or take a connection that is open, and send. Raises UpstreamFailed."""

    def close(self) -> None:
        """Close the connections that nobody uses."""


def best() -> Transport:
    """The transport with the quicker parser: llhttp's where it is installed."""
    from policyroute.proxy.upstream.pool import Pooled

    try:
        from policyroute.proxy.upstream.llhttp import Llhttp
    except ImportError:
        from policyroute.proxy.upstream.plain import Plain

        return Pooled(Plain)
    return Pooled(Llhttp)
