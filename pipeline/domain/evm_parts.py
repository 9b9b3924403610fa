"""A transaction that no message takes → parts that each fit one. Pure.

A part repeats what the transaction is and cost, and has a share of its logs, transfers and balance changes: each of
them stands in one part, in the order of the whole, so that the parts put together are the transaction. A balance
change keeps its row whole, in the first part with a transfer that touches the balance: what was held before is then
told before anything moves. The smallest share is a log, or a few transfers; a log that is too large for a message by
itself leaves out its data, then its arguments, and says so. Thus everything fits, whatever a contract emits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from eth_hash.auto import keccak

from pipeline.domain.decode.evm_transfers import ZERO_ADDRESS, book_asset
from schemas.records import EvmBalanceChange, EvmLog, EvmTransaction, EvmTransfer

Fits = Callable[[EvmTransaction], bool]
SLICE: Final = 100  # transfers of a share; with their balance changes at most some 120 KB
LARGE: Final = 100_000  # characters of a log's data and arguments; from there on it is a share alone
_MANY: Final = 1 << 30  # what fits with this number fits with the true one


@dataclass(slots=True)
class _Share:
    """What is not cut any further."""

    raw: bytes = b""
    logs: list[EvmLog] = field(default_factory=list)
    transfers: list[EvmTransfer] = field(default_factory=list)
    changes: list[EvmBalanceChange] = field(default_factory=list)


def parts_of(transaction: EvmTransaction, fits: Fits) -> list[EvmTransaction]:
    """The transaction, or its parts in order, each of which `fits` a message by itself.

    What makes no message even alone is left out, with a note in `error`: `raw` of the transaction, `data` and `args`
    of a log. Transfers must be those of the logs, balance changes those of the transfers.
    """
    if fits(transaction):
        return [transaction]
    transaction = _shortened(transaction, fits)
    if fits(transaction):
        return [transaction]

    def part(shares: Sequence[_Share]) -> EvmTransaction:
        return _part(transaction, shares, _MANY, _MANY, _MANY)

    groups = list(_halved(list(_shares(transaction)), lambda shares: fits(part(shares))))
    parts: list[EvmTransaction] = []
    transfers = 0
    for number, group in enumerate(groups):
        parts.append(_part(transaction, group, number, len(groups), transfers))
        transfers += len(parts[-1]["transfers"])
    return parts


def _part(
    transaction: EvmTransaction, shares: Sequence[_Share], part: int, parts: int, first_transfer: int
) -> EvmTransaction:
    return {
        **transaction,
        "part": part,
        "parts": parts,
        "first_transfer": first_transfer,
        "logs": [log for share in shares for log in share.logs],
        "transfers": [transfer for share in shares for transfer in share.transfers],
        "balance_changes": [change for share in shares for change in share.changes],
        "raw": b"".join(share.raw for share in shares),
    }


def _halved(shares: list[_Share], fit: Callable[[list[_Share]], bool]) -> Iterator[list[_Share]]:
    """Halve until every group fits or is one share."""
    if len(shares) < 2 or fit(shares):
        yield shares
        return
    middle = len(shares) // 2
    yield from _halved(shares[:middle], fit)
    yield from _halved(shares[middle:], fit)


def _shares(transaction: EvmTransaction) -> Iterator[_Share]:
    """`raw`; then each log with its first transfers, and the rest of its transfers in slices."""
    rows = {(row["account"], row["asset"]): row for row in transaction["balance_changes"]}
    moved: dict[int, list[EvmTransfer]] = defaultdict(list)
    for transfer in transaction["transfers"]:
        moved[transfer["log_index"]].append(transfer)
    yield _Share(raw=transaction["raw"])
    for log in transaction["logs"]:
        mine = moved[log["log_index"]]
        first = 0 if _weight(log) > LARGE else SLICE
        yield _Share(logs=[log], transfers=mine[:first], changes=_touched(mine[:first], rows))
        for at in range(first, len(mine), SLICE):
            some = mine[at : at + SLICE]
            yield _Share(transfers=some, changes=_touched(some, rows))


def _touched(
    transfers: Sequence[EvmTransfer], rows: dict[tuple[str, str], EvmBalanceChange]
) -> list[EvmBalanceChange]:
    """Takes the rows of the balances that these transfers touch."""
    found = []
    for transfer in transfers:
        for account in (transfer["from_address"], transfer["to_address"]):
            row = rows.pop((account, book_asset(transfer)), None) if account != ZERO_ADDRESS else None
            if row is not None:
                found.append(row)
    return found


def _weight(log: EvmLog) -> int:
    return len(log["data"]) + sum(len(arg["value"]) for arg in log["args"])


def _shortened(transaction: EvmTransaction, fits: Fits) -> EvmTransaction:
    """Without what makes no message even alone."""
    bare = _part(transaction, [], _MANY, _MANY, _MANY)
    if not fits({**bare, "raw": transaction["raw"]}):
        error = _noted(transaction["error"], "raw left out: the transaction is too large for a message")
        transaction = {**transaction, "raw": b"", "error": error}
    logs = [
        log if _weight(log) <= LARGE else _short(log, lambda one: fits({**bare, "logs": [one]}))
        for log in transaction["logs"]
    ]
    return {**transaction, "logs": logs}


def _short(log: EvmLog, fits: Callable[[EvmLog], bool]) -> EvmLog:
    if fits(log):
        return log
    data = log["data"]
    note = (
        f"{len(data) // 2 - 1} bytes of data left out, keccak-256 0x{keccak(bytes.fromhex(data[2:])).hex()}"
    )
    short: EvmLog = {**log, "data": "0x", "error": _noted(log["error"], note)}
    if fits(short):
        return short
    return {**short, "args": [], "error": _noted(short["error"], "arguments left out")}


def _noted(error: str | None, note: str) -> str:
    return f"{error}; {note}" if error else note
