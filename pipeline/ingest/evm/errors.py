"""What an EVM node did instead of answering, told apart: who asks decides by the kind what to do next.

Nodes name their refusals by a code and free text, each provider in its own words; `error_of` is the one place that
reads them. Sources: EIP-1474 (codes), and the texts of geth, erigon, nethermind, reth, anvil and of hosted providers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final


class NodeError(Exception):
    """A node did not give what was asked; `reason` in one word for counters."""

    reason = "error"


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


def error_of(name: str, method: str, error: Any) -> NodeError:
    """The NodeError that a JSON-RPC error object is."""
    told = error if isinstance(error, Mapping) else {"message": str(error)}
    code, text = told.get("code"), str(told.get("message", ""))[:200]
    said, low = f"{name}: {method}: {code} {text}", text.lower()
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
    except ValueError:
        return None
