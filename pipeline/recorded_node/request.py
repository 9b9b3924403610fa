"""One request as a node reads it: which ledger it is about, and fields of the right kind.

Source: rippled `RPCLedgerHelpers.cpp` (ledgerFromRequest), `RPCHelpers.cpp` (readLimitField).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.domain.decode.xrpl_address import decode_account
from pipeline.recorded_node.errors import Refusal, invalid_field, missing_field, not_found
from pipeline.recorded_node.view import View

Json = dict[str, Any]

_HASH: Final = re.compile(r"[0-9A-Fa-f]{64}")
_INDEX_MAX: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger that a request is about."""

    index: int
    open: bool = False


def is_hash(value: object) -> bool:
    """64 hex digits."""
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def flag(params: Mapping[str, Any], name: str) -> bool:
    """A field as rippled's `asBool` reads it."""
    return bool(params.get(name))


def lookup_ledger(view: View, params: Mapping[str, Any], api_version: int) -> Ledger:
    """The ledger that a request names; Refusal as the node refuses. None named is the open one."""
    if not view.synced:
        if api_version == 1:
            raise Refusal("noNetwork", "InsufficientNetworkMode")
        raise Refusal("notSynced", "notSynced")
    hash_, index = params.get("ledger_hash"), params.get("ledger_index")
    legacy = params.get("ledger")
    if legacy:
        hash_, index = (legacy, index) if len(str(legacy)) > 12 else (hash_, legacy)
    if hash_ is not None:
        return _by_hash(view, hash_)
    return _by_index(view, index)


def _by_hash(view: View, hash_: object) -> Ledger:
    if not isinstance(hash_, str):
        raise Refusal("invalidParams", "ledgerHashNotString")
    if not is_hash(hash_):
        raise Refusal("invalidParams", "ledgerHashMalformed")
    index = view.tape.index_of(hash_)
    if index is None or not view.has(index):
        raise not_found()
    return Ledger(index)


def _by_index(view: View, value: object) -> Ledger:
    if value is None or value in ("", "current"):
        return Ledger(view.last + 1, open=True)
    if value in ("validated", "closed"):
        return Ledger(view.validated())
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if not text.isdecimal() or int(text) > _INDEX_MAX:
        raise Refusal("invalidParams", "ledgerIndexMalformed")
    index = int(text)
    if index == view.last + 1:
        return Ledger(index, open=True)
    if not view.has(index):
        raise not_found()
    return Ledger(index)


def about(view: View, ledger: Ledger) -> Json:
    """What an answer says of the ledger it is about."""
    if ledger.open:
        return {"ledger_current_index": ledger.index, "validated": False}
    return {"ledger_hash": view.tape.hash_of(ledger.index), "ledger_index": ledger.index, "validated": True}


def account_field(params: Mapping[str, Any], name: str = "account") -> str:
    """A field that should be an address, still unchecked."""
    if name not in params:
        raise missing_field(name)
    if not isinstance(params[name], str):
        raise invalid_field(name)
    value: str = params[name]
    return value


def check_account(address: str, extra: Mapping[str, Any]) -> str:
    """The address, if it is one. Refusal actMalformed."""
    try:
        decode_account(address)
    except ValueError:
        raise Refusal("actMalformed", extra=extra) from None
    return address


def limit_field(params: Mapping[str, Any], low: int, usual: int, high: int) -> int:
    """`limit`, within what a client that is no admin may ask for."""
    value = params.get("limit")
    if value is None:
        return usual
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise invalid_field("limit", "unsigned integer")
    if value == 0:
        raise invalid_field("limit")
    return max(low, min(value, high))
