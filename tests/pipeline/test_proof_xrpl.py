"""Proof files of XRPL transactions: every one of the recorded chain, and mainnet's; none for another ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from xrpl.core.binarycodec import decode

from pipeline.domain import proof, proof_xrpl
from pipeline.domain.decode.xrpl import decode_ledger
from pipeline.domain.decode.xrpl_shapes import read_header, split_ledger
from pipeline.domain.proof_errors import Contradiction, Unprovable
from pipeline.domain.proof_form import write
from pipeline.domain.xrpl_hash import ledger_hash
from tests.pipeline.test_xrpl_proof import files, load, standalone
from tests.support.proof_reader import read_proof

DATA = Path(__file__).parents[1] / "data"
OF_RECORD = (
    "transaction_index", "hash", "type", "result", "account", "fee_payer", "fee", "sequence", "destination",
    "memos", "balance_changes", "nft_changes", "mpt_changes", "object_changes", "unexplained", "error",
)  # fmt: skip


def whole(header: dict[str, Any]) -> dict[str, Any]:
    """The header with what its recording lacks: the parent's close time that fits its hash (2015); where all but the
    root is missing (2026), made up."""
    if header["ledger_hash"] is None:
        hashes = dict.fromkeys(("parent_hash", "account_hash"), "AB" * 32)
        times = {"close_time": 1_800_000_000_000, "parent_close_time": 1_799_999_990_000}
        header = {**header, **hashes, **times, "total_coins": 10**17, "close_time_resolution": 10}
        return {**header, "ledger_hash": ledger_hash(header)}
    before = [{**header, "parent_close_time": header["close_time"] - 1000 * s} for s in range(100)]
    return next(one for one in [header, *before] if one["parent_close_time"] and fits(one))


def fits(header: dict[str, Any]) -> bool:
    return ledger_hash(header) == header["ledger_hash"]


def proven(recorded: Any, every: int = 1) -> int:
    """Make and check the proofs of a ledger's transactions; how many. What they tell is what the decoder does."""
    ledger = split_ledger(recorded)
    header, records = decode_ledger(recorded)
    header = whole(header)
    for record in records[::every]:
        content = write(proof_xrpl.make(header, ledger.transactions, record["hash"]))
        told = proof.check(content, header["ledger_hash"])
        assert {name: told[name] for name in OF_RECORD} == {name: record[name] for name in OF_RECORD}
        assert (told["block_number"], told["time"]) == (header["ledger_index"], header["close_time"])
        found = read_proof(content)
        assert found["block_hash"].hex().upper() == header["ledger_hash"]
        assert decode(found["transaction"].hex())["TransactionType"] == record["type"]
    return len(records[::every])


def test_every_transaction_of_the_recorded_chain() -> None:
    assert sum(proven(answer) for answer in standalone()) == 988


@pytest.mark.parametrize("path", files(DATA))
def test_mainnet_transactions(path: Path) -> None:
    """2013, 2015, 2024, 2026; api_version 1 and 2, and binary."""
    assert proven(load(path), 9) > 0


def one() -> tuple[dict[str, Any], list[Any], str]:
    """Header, transactions and a hash of a ledger with many."""
    recorded = max(standalone(), key=lambda answer: len(split_ledger(answer).transactions))
    ledger = split_ledger(recorded)
    return read_header(ledger), ledger.transactions, ledger.transactions[0]["hash"]


def test_a_proof_is_of_one_ledger_alone() -> None:
    header, transactions, name = one()
    content = write(proof_xrpl.make(header, transactions, name))
    assert proof.check(content, header["ledger_hash"].lower())["hash"] == name
    with pytest.raises(Contradiction, match="not 00"):
        proof.check(content, "00" * 32)
    with pytest.raises(Contradiction, match="leads to block"):
        proof.check(content, header["parent_hash"])


def test_a_transaction_does_not_pass_for_another() -> None:
    """The parts of two proofs of one ledger can't be put together into a third."""
    header, transactions, name = one()
    first, other = (proof_xrpl.make(header, transactions, of["hash"]) for of in transactions[:2])
    assert first["transaction_hash"] == name
    for field in ("transaction_hash", "transaction", "metadata", "path"):
        if first[field] != other[field]:
            with pytest.raises((Contradiction, ValueError)):
                proof_xrpl.check({**first, field: other[field]})


def test_a_ledger_that_lacks_something_has_no_proof() -> None:
    header, transactions, name = one()
    with pytest.raises(Contradiction, match="path leads to the root"):
        proof_xrpl.make(header, transactions[:-1], name)
    with pytest.raises(Unprovable, match="not among"):
        proof_xrpl.make(header, transactions[1:], name)
    with pytest.raises(Contradiction, match="hashes to"):
        proof_xrpl.make({**header, "total_coins": header["total_coins"] + 1}, transactions, name)
    for field in ("account_hash", "total_coins", "close_time_resolution"):
        with pytest.raises(Unprovable, match=field):
            proof_xrpl.make({**header, field: None}, transactions, name)
    changed = json.loads(json.dumps(transactions))
    changed[1]["meta"]["TransactionResult"] = "tecCLAIM"
    with pytest.raises(Contradiction):
        proof_xrpl.make(header, changed, name)
    changed[1]["tx_json"]["UnknownField"] = 1
    with pytest.raises(Unprovable, match="UnknownField"):
        proof_xrpl.make(header, changed, name)


def test_what_a_path_must_not_tell() -> None:
    """The branch to the transaction, and empty ones, would be told without being proven."""
    made = proof_xrpl.make(*one())
    digit = made["transaction_hash"][0]
    empty = next(one for one in "0123456789ABCDEF" if one not in made["path"][0] and one != digit)
    for extra in ({digit: "AB" * 32}, {empty: "00" * 32}):
        path = [{**made["path"][0], **extra}, *made["path"][1:]]
        with pytest.raises(ValueError, match="branch to the transaction"):
            proof_xrpl.check({**made, "path": path})
