"""Wrong answers, made from right ones.

A forged ledger keeps its hash and header and changes what only the transactions' root can tell; a header is
forged so that only recomputing the ledger hash tells; another chain's ledger is right in itself and does not
follow. What strikes is drawn by faults.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha512
from typing import Any, Final

import orjson

from pipeline.domain.decode.xrpl_shapes import EPOCH_OFFSET_S
from pipeline.domain.xrpl_hash import HeaderError, ledger_hash
from pipeline.recorded_node.answers import Answer, refusal
from pipeline.recorded_node.errors import Refusal
from pipeline.recorded_node.faults import Draws
from pipeline.recorded_node.ledger_commands import shape_record
from pipeline.recorded_node.shapes import Json
from pipeline.recorded_node.view import View

HTML: Final = (
    b"<html><head><title>503 Service Temporarily Unavailable</title></head>"
    b"<body><center><h1>503 Service Temporarily Unavailable</h1></center></body></html>"
)
_MILLION: Final = 1_000_000


def serialised(view: View, draws: Draws, answer: Answer) -> bytes:
    """The message to send for an answer, right or as the faults have it."""
    faults = view.faults
    if answer.command != "subscribe":
        for name, error in (("slow_down", "slowDown"), ("too_busy", "tooBusy")):
            if draws.happens(faults, name):
                return refusal(answer.request, Refusal(error))
    text = _ledger_text(view, draws, answer)
    for name, spoil in _SPOILS.items():
        if draws.happens(faults, name):
            return spoil(text)
    return text


def _ledger_text(view: View, draws: Draws, answer: Answer) -> bytes:
    """The answer; to `ledger` perhaps of a forged record."""
    faults = view.faults
    if answer.command != "ledger" or not (
        faults.oversized or any(getattr(faults, name) for name in FORGERIES)
    ):
        return answer.serialised()
    index = _ledger_index(answer)
    if index is None or (faults.only and index not in faults.only):
        return answer.serialised()
    for name, forge in FORGERIES.items():
        if draws.happens(faults, name, index):
            forged = forge(view, view.tape.record(index))
            if forged is not None:
                shaped = shape_record(forged, answer.request, answer.request.get("api_version", 1))
                return Answer(answer.request, "ledger", shaped).serialised()
    text = answer.serialised()
    return _blown_up(text, faults.oversized) if faults.oversized else text


def _ledger_index(answer: Answer) -> int | None:
    """Index of the closed ledger that an answer to `ledger` shows."""
    result = orjson.loads(answer.result) if isinstance(answer.result, bytes) else answer.result
    found = result.get("ledger_index") if result else None
    return found if isinstance(found, int) else None


def forge_transaction(view: View, record: Json) -> Json | None:
    """A million drops more in one account after one transaction; None for a ledger without transactions."""
    for entry in record["ledger"]["transactions"]:
        if "tx_blob" in entry:
            blob = entry["meta_blob"]
            middle = len(blob) // 2
            entry["meta_blob"] = blob[:middle] + f"{int(blob[middle], 16) ^ 1:X}" + blob[middle + 1 :]
            return record
        for node in entry["meta"].get("AffectedNodes", ()):
            ((_, body),) = node.items()
            for fields in (body.get("FinalFields"), body.get("NewFields")):
                if fields and isinstance(fields.get("Balance"), str):
                    fields["Balance"] = str(int(fields["Balance"]) + _MILLION)
                    return record
    return None


def forge_header(view: View, record: Json) -> Json | None:
    """Another state hash under the same ledger hash."""
    header = record["ledger"]
    header["account_hash"] = _other_hash(header.get("account_hash", ""))
    return record


def other_ledger(view: View, record: Json) -> Json | None:
    """The ledger before (or after) in place of the one that was asked for."""
    index = record["ledger_index"]
    for other in (index - 1, index + 1):
        if view.has(other):
            return view.tape.record(other)
    return None


def other_chain(view: View, record: Json) -> Json | None:
    """The same transactions under a header of another chain, whose own hash holds."""
    header = record["ledger"]
    header["parent_hash"] = _other_hash(header.get("parent_hash", ""))
    try:
        header["ledger_hash"] = ledger_hash(_in_schema_units(header))
    except HeaderError:
        return None
    record["ledger_hash"] = header["ledger_hash"]
    for entry in header["transactions"]:
        if "ledger_hash" in entry:
            entry["ledger_hash"] = header["ledger_hash"]
    return record


def not_validated(view: View, record: Json) -> Json | None:
    """The ledger as if it were not final yet."""
    record["validated"] = False
    for entry in record["ledger"]["transactions"]:
        if "validated" in entry:
            entry["validated"] = False
    return record


def lacks_transaction(view: View, record: Json) -> Json | None:
    """One transaction left out; None for a ledger without transactions."""
    entries = record["ledger"]["transactions"]
    if not entries:
        return None
    del entries[len(entries) // 2]
    return record


FORGERIES: Final[Mapping[str, Callable[[View, Json], Json | None]]] = {
    "forged_transaction": forge_transaction,
    "forged_header": forge_header,
    "other_ledger": other_ledger,
    "other_chain": other_chain,
    "not_validated": not_validated,
    "lacks_transaction": lacks_transaction,
}


def _other_hash(text: str) -> str:
    return sha512(text.encode()).hexdigest()[:64].upper()


def _in_schema_units(header: Mapping[str, Any]) -> Json:
    times = {
        name: (header[name] + EPOCH_OFFSET_S) * 1000
        for name in ("close_time", "parent_close_time")
        if name in header
    }
    coins = int(header["total_coins"]) if "total_coins" in header else None
    return {**header, **times, "total_coins": coins}


def _cut(text: bytes) -> bytes:
    return text[: max(1, len(text) // 2)]


def _without_id(text: bytes) -> bytes:
    body = orjson.loads(text)
    body.pop("id", None)
    return orjson.dumps(body)


def _blown_up(text: bytes, size: int) -> bytes:
    return text[:-1] + b',"warning":"' + b"x" * size + b'"}'


_SPOILS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "garbage": _cut,
    "no_id": _without_id,
    "html": lambda text: HTML,
}
