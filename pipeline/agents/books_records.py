"""What the books role tells: books.transfers.v1 of a message's transfers, and findings of what was refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from pipeline.domain.posting.legs import Finding
from schemas.records import BookTransfer, BookTransfers
from sinks.bookkeeper import BlockPosting, Posted

RECORD_BYTES_MAX: Final = 900_000  # brokers take 1 MiB as a rule
_RECORD_BYTES: Final = 400  # of a record without its asset and transfers
_ROW_BYTES: Final = (
    80  # of a row without its texts: id 16, five numbers of 5, timestamp 10, lengths of ten texts
)


def transfer_records(
    block: Any, posting: BlockPosting, posted: Sequence[Posted], book_of: Callable[[str], int]
) -> list[BookTransfers]:
    """What one message did in the books, as one record per book, in the order it was posted.

    Head: its transfers pending; final: posted; retracted: voided; each row as it stands after the message.
    `block`: the record of the source topic, whose way of writing the hash is kept. What would pass
    RECORD_BYTES_MAX comes in parts; the same transfers always in the same ones.
    """
    books: dict[str, list[BookTransfers]] = {}
    room: dict[str, int] = {}
    for transfer in posted:
        asset = transfer.debit.asset
        row = _row(transfer, posting.hashes)
        size = _bytes_most(row)
        if room.get(asset, 0) < size:
            parts = books.setdefault(asset, [])
            record = _record(block, posting, asset, book_of(asset), len(parts))
            parts.append(record)
            room[asset] = RECORD_BYTES_MAX - _RECORD_BYTES - len(asset.encode())
        books[asset][-1]["transfers"].append(row)
        room[asset] -= size
    return [record for parts in books.values() for record in parts]


def _bytes_most(row: BookTransfer) -> int:
    """As many bytes as a row has at the most."""
    texts = (row["hash"], row["reason"] or "", row["debit_owner"], row["debit_subject"],
             row["credit_owner"], row["credit_subject"], row["amount"], row["pending_id"])  # fmt: skip
    return _ROW_BYTES + sum(map(len, map(str.encode, texts)))


def _record(block: Any, posting: BlockPosting, asset: str, book: int, part: int) -> BookTransfers:
    own_name = "block_hash" if "block_hash" in block else "ledger_hash"
    return {
        "asset": asset,
        "book": book,
        "chain": posting.chain,
        "chain_number": posting.chain_number,
        "run": posting.run,
        "block": posting.block,
        "block_hash": block[own_name] or "",
        "chunk": posting.chunk,
        "publication": posting.publication,
        "part": str(part) if part else "",
        "time": block["close_time"] if "close_time" in block else block["time"],
        "transfers": [],
    }


def _row(transfer: Posted, hashes: dict[int, str]) -> BookTransfer:
    debit, credit = transfer.debit, transfer.credit
    return {
        "transfer_id": transfer.transfer_id[::-1],
        "transaction_index": transfer.transaction,
        "leg": transfer.leg,
        "hash": hashes.get(transfer.transaction, ""),
        "code": transfer.code,
        "status": transfer.status,  # type: ignore[typeddict-item]
        "reason": transfer.reason,
        "debit_code": debit.code,
        "debit_owner": debit.owner,
        "debit_subject": debit.subject,
        "credit_code": credit.code,
        "credit_owner": credit.owner,
        "credit_subject": credit.subject,
        "amount": str(transfer.amount),
        "pending_id": transfer.pending_id[::-1].hex().upper(),
        "event_id": "",
        "flow": "",
        "timestamp": 0,
    }


def refusals(posting: BlockPosting, posted: Iterable[Posted]) -> list[Finding]:
    """One finding per asset whose book could not take a transfer: it lacks that from here on."""
    found: dict[str, Finding] = {}
    for transfer in posted:
        if transfer.status != "refused" or transfer.debit.asset in found:
            continue
        evidence = {
            "hash": posting.hashes.get(transfer.transaction, ""),
            "leg": str(transfer.leg),
            "amount": str(transfer.amount),
            "from": transfer.debit.owner,
            "to": transfer.credit.owner,
            "detail": "the account's 128 bits do not hold the sum",
        }
        asset = transfer.debit.asset
        found[asset] = Finding("over_u128", "warning", asset, transfer.transaction, evidence)
    return list(found.values())
