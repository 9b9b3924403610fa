"""What the books role tells: books.transfers.v1 of a message's transfers, and findings of what was refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pipeline.domain.posting.legs import Finding
from schemas.records import BookTransfer, BookTransfers
from sinks.bookkeeper import BlockPosting, Posted


def transfer_records(
    block: Any, posting: BlockPosting, posted: Sequence[Posted], book_of: Callable[[str], int]
) -> list[BookTransfers]:
    """What one message did in the books, as one record per book, in the order it was posted.

    Head: its transfers pending; final: posted; retracted: voided; each row as it stands after the message.
    `block`: the record of the source topic, whose way of writing the hash is kept.
    """
    records: dict[str, BookTransfers] = {}
    for transfer in posted:
        asset = transfer.debit.asset
        record = records.get(asset)
        if record is None:
            record = records[asset] = _record(block, posting, asset, book_of(asset))
        record["transfers"].append(_row(transfer, posting.hashes))
    return list(records.values())


def _record(block: Any, posting: BlockPosting, asset: str, book: int) -> BookTransfers:
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
