"""What an EVM node did instead of answering, told apart: who asks decides by the kind what to do next.

Nodes name their refusals by a code and free text, each provider in its own words; `error_of` is the one place that
reads them. What a node says may hold anything, also our key: `plain` makes it fit to be shown. Sources: EIP-1474
(codes), and the texts of geth, erigon, nethermind, reth, anvil and of hosted providers.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from pipeline.domain.proof_errors import Contradiction, Unprovable

SAID_MAX: Final = 300  # characters of a node's own text
ODD: Final = (
    TypeError,
    LookupError,
    ValueError,
    AttributeError,
    RecursionError,
    ArithmeticError,
)  # what an answer of a shape that nobody foresaw ends in


class NodeError(Exception):
    """A node did not give what was asked; `reason` in one word for counters. Its text is one line."""

    reason = "error"

    def __init__(self, said: str = "") -> None:
        super().__init__(plain(said, cut=2000))


class NotFound(NodeError):
    """The node does not have it: later or elsewhere. `method` asked for it."""

    reason = "not_found"

    def __init__(self, said: str, method: str = "") -> None:
        super().__init__(said)
        self.method = method


class Refused(NodeError):
    """The node does not answer such a request: asking again changes nothing."""

    reason = "refused"


class Busy(NodeError):
    """The node asks us to be slower. `retry_after`: seconds that it wants, None where it does not say."""

    reason = "busy"

    def __init__(self, said: str, retry_after: float | None = None) -> None:
        super().__init__(said)
        self.retry_after = retry_after


class TooLarge(NodeError):
    """The node, or we, would not have so much in one answer: ask for less."""

    reason = "too_large"


class Unreachable(NodeError):
    """No connection, no answer in time, or none that can be read."""

    reason = "unreachable"


class Disconnected(Unreachable):
    """The connection was not there, or ended before the answer."""


class OtherChain(NodeError):
    """The node is of another chain, at least now."""

    reason = "chain_id"


class Wrong(NodeError):
    """The answer can't be: `why` in one word."""

    def __init__(self, why: str, said: str) -> None:
        super().__init__(said)
        self.reason = why


class Unusable(NodeError):
    """The node can never serve us. Names the setting."""

    reason = "unusable"


class NoNode(Exception):
    """No node can be asked at the moment, or none gives an answer that stands."""


class Missing(Exception):
    """Every node that can be asked says that it does not have the block."""


# By text, the first that fits; then by code.
_BUSY: Final = (
    "rate limit", "too many requests", "request rate", "daily request", "capacity", "throttl", "busy", "compute units",
    "per second", "try again later",
)  # fmt: skip
_TOO_LARGE: Final = (
    "query returned more than", "block range", "range is too", "range too", "response size", "too large", "exceeds max",
    "max results", "exceeds the range", "limited to", "too many results", "too many logs", "batch limit",
    "batch size",
)  # fmt: skip
_SLOW: Final = ("timeout", "timed out", "deadline")
_LACKING: Final = (
    "not found", "unknown block", "missing trie node", "pruned", "does not exist", "not available", "no such block",
    "out of range", "outofrange",
)  # fmt: skip
_REFUSED: Final = ("not supported", "unsupported", "not available on", "does not support", "method not found")
_CODES: Final[Mapping[int, type[NodeError]]] = {
    429: Busy, -32005: Busy, -32601: Refused, -32602: Refused, -32600: Refused, -32700: Refused, -32004: Refused,
    -32001: NotFound, -39001: NotFound,
}  # fmt: skip


def error_of(name: str, method: str, error: Any, secrets: Collection[str] = ()) -> NodeError:
    """The NodeError that a JSON-RPC error object is. `secrets` are blanked in its text."""
    told = error if isinstance(error, Mapping) else {"message": str(error)}
    code, text = told.get("code"), str(told.get("message", ""))
    shown = code if isinstance(code, int) else plain(str(code), secrets, 20)
    said, low = f"{name}: {method}: {shown} {plain(text, secrets)}", text[:SAID_MAX].lower()
    if code == 3 or "revert" in low:  # a contract's own words may be any
        return NodeError(said)
    if any(word in low for word in _BUSY):
        return Busy(said)
    if any(word in low for word in _TOO_LARGE):
        return TooLarge(said)
    if method == "eth_getLogs" and (code == -32005 or any(word in low for word in _SLOW)):
        return TooLarge(said)
    if any(word in low for word in _REFUSED):
        return Refused(said)
    if any(word in low for word in _LACKING) and code != -32601:
        return NotFound(said, method)
    kind = _CODES.get(code, NodeError) if isinstance(code, int) else NodeError
    return NotFound(said, method) if kind is NotFound else kind(said)


def seconds_of(retry_after: str | None) -> float | None:
    """A Retry-After header: seconds or a date (RFC 9110); None where it says nothing."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ODD:
        return None


@contextmanager
def legible(name: str, what: str) -> Iterator[None]:
    """The net under all reading of answers: one that is odd in a way that nobody foresaw is Wrong, and no crash."""
    try:
        yield
    except (Contradiction, Unprovable):  # ValueErrors that say more
        raise
    except ODD as error:
        raise Wrong("malformed", f"{name}: {what} can't be read ({type(error).__name__})") from error


# What may be shown


def plain(text: str, secrets: Collection[str] = (), cut: int = SAID_MAX) -> str:
    """A text of a node in one line that a terminal bears, at most `cut` long, without the secrets."""
    line = " ".join("".join(one for one in part if one.isprintable()) for part in text[:20_000].split())
    if secrets:
        longest_first = sorted(secrets, key=len, reverse=True)
        line = re.sub("|".join(map(re.escape, longest_first)), "…", line, flags=re.IGNORECASE)
    return line if len(line) <= cut else line[: cut - 1] + "…"


def secrets_of(url: str) -> frozenset[str]:
    """What of a node's URL must not be shown, also if the node itself says it: path, query, user and password.

    Parts of the path that are plain short words (`mainnet`, `archive`, `v2`) hold no key.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return frozenset({url})
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    both = (
        base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode() if user or password else ""
    )
    segments = [one for one in parts.path.split("/") if len(one) >= 8 or any(map(str.isdigit, one))]
    values = [value for _, value in parse_qsl(parts.query)]
    told = [parts.path, parts.query, parts.fragment, user, password, both, *segments, *values]
    return frozenset(one for part in told for one in (part, unquote(part)) if len(one) >= 4)


def trouble(error: BaseException) -> str:
    """What a connection's error may say: its kind, the status or the system's words; never its own text, which may
    hold the URL."""
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    words = getattr(error, "verify_message", "") or (error.strerror if isinstance(error, OSError) else "")
    told = f"HTTP {status}" if isinstance(status, int) else str(words or "")
    return f"{type(error).__name__} {plain(told, cut=120)}".rstrip()
