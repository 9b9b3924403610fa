"""Where an EVM ingest goes on: packing a block, folding a partition's tail, the journal of unfinal messages."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.branch import step_of
from pipeline.domain.decode.evm_values import HASH_DIGITS
from pipeline.ingest.evm.journal import Journal
from pipeline.ingest.evm.line import EvmLine, Told
from pipeline.ingest.evm.resume import fold, is_enough
from pipeline.ingest.ledgers import CHUNK_BYTES
from schemas.codec import local_codec

CODEC = local_codec()
TOPIC = "evm.blocks.v1"
LINE = EvmLine("eip155:31337", 16384, "header", lambda record: CODEC.encode(TOPIC, record))
ZERO = "0x" + "0" * HASH_DIGITS


def block_hash(number: int, branch: str = "a") -> str:
    return f"0x{branch}{number:015x}" + "0" * 48


def header(number: int, branch: str = "a", parent: str | None = None) -> dict[str, Any]:
    return {
        "block_number": number, "block_hash": block_hash(number, branch),
        "parent_hash": block_hash(number - 1, parent or branch), "time": 1000 * number, "gas_used": 0, "gas_limit": 0,
        "base_fee": "7", "blob_gas_used": None, "excess_blob_gas": None, "fee_recipient": None, "state_root": ZERO,
        "transactions_root": ZERO, "receipts_root": ZERO, "decoder_version": 1, "raw_header": b"header",
        "transaction_count": 0, "watched_count": 0, "log_count": 0, "watched": False,
    }  # fmt: skip


def transaction(index: int, raw: int = 0, data: int = 0, event: str | None = None) -> Any:
    log = {
        "log_index": index, "contract": "0x" + "1" * 40, "topics": [ZERO], "data": "0x" + "ab" * data, "event": event,
        "signature": None, "args": [], "error": None,
    }  # fmt: skip
    names = (
        "type status from_address to_address contract_address nonce value selector gas_used effective_gas_price "
        "blob_gas_used blob_gas_price blob_fee l1_fee fee burnt tip fee_payer error"
    )
    return {
        **dict.fromkeys(names.split()), "transaction_index": index, "hash": f"0x{index:064x}", "treasury_paid": False,
        "part": 0, "parts": 1, "first_transfer": 0, "logs": [log] if data else [], "transfers": [],
        "balance_changes": [], "raw": random.Random(index).randbytes(raw),
    }  # fmt: skip


def told(
    number: int, branch: str = "a", parent: str | None = None, transactions: Any = (), **more: Any
) -> Told:
    told_, _ = LINE.told(
        header(number, branch, parent), list(transactions), [], run=1,
        **{"finality": "head", "incarnation": 0, "highest": -1, **more},
    )  # fmt: skip
    return told_


def test_a_large_block_is_cut_once_and_repeated_alike() -> None:
    block, messages = LINE.told(
        header(1),
        [transaction(i, raw=200_000) for i in range(9)],
        [],
        run=1,
        finality="head",
        incarnation=2,
        highest=3,
    )
    assert len(messages) > 2 and all(len(encoded) <= CHUNK_BYTES for _, encoded in messages)
    assert [record["raw_header"] for record, _ in messages] == [b"header"] + [b""] * (len(messages) - 1)
    assert [tx["transaction_index"] for record, _ in messages for tx in record["transactions"]] == list(
        range(9)
    )
    for finality in ("final", "retracted"):
        again = block.again(finality, 7)
        assert [(r["chunk"], r["chunks"], r["transactions"]) for r in again] == [
            (r["chunk"], r["chunks"], r["transactions"]) for r in block.records
        ]
        assert {(r["publication"], r["was_head"], r["finality"]) for r in again} == {
            (f"2/{finality}", True, finality)
        }
        assert [CODEC.decode(encoded)[1] for _, encoded in LINE.messages(again)] == again


def test_a_transaction_leaves_out_what_alone_is_too_large_for_a_message() -> None:
    _, messages = LINE.told(
        header(1),
        [transaction(0, raw=1_000_000), transaction(1, data=500_000), transaction(2, data=500_000, event="Known")], [],
        run=1, finality="final", incarnation=0, highest=1,
    )  # fmt: skip
    first, second, third = [tx for record, _ in messages for tx in record["transactions"]]
    assert first["raw"] == b"" and "raw left out" in first["error"]
    for one in (second, third):
        (log,) = one["logs"]
        assert log["data"] == "0x" and log["error"].startswith("500000 bytes of data left out, keccak-256 0x")
    assert all(len(encoded) <= CHUNK_BYTES for _, encoded in messages)


def history(seed: int) -> list[Any]:
    """Records of a restless chain: heads, retractions at most 5 deep, finals."""
    draw = random.Random(seed)
    records: list[Any] = []
    standing: list[Told] = []
    branch = fold([]).branch
    for _ in range(160):
        choice = draw.random()
        if choice < 0.2 and standing:
            lost = [standing.pop() for _ in range(min(len(standing), draw.randrange(1, 6)))]
            new = [record for one in lost for record in one.again("retracted", branch.highest)]
        elif choice < 0.4 and len(standing) > 5:
            new = standing.pop(0).again("final", branch.highest)
        else:
            tip = branch.tip or (0, "")
            name = draw.choice("abc")
            made = header(tip[0] + 1, name)
            made["parent_hash"] = f"0x{tip[1]}"
            many = [transaction(i, raw=400_000) for i in range(draw.choice((0, 0, 0, 4)))]
            block, _ = LINE.told(
                made, many, [], run=1, finality="head",
                incarnation=branch.incarnation(tip[0] + 1, made["block_hash"]), highest=branch.highest,
            )  # fmt: skip
            standing.append(block)
            new = list(block.records)
        for record in new:
            branch.judge(step_of(record))
            branch.take(step_of(record))
        records += new
    return records


@pytest.mark.parametrize("seed", range(6))
def test_what_is_enough_of_a_tail_tells_the_same_as_all_of_it(seed: int) -> None:
    records = history(seed)
    for end in range(40, len(records), 17):
        whole = fold(records[:end])
        start = next((s for s in range(end, -1, -1) if is_enough(records[s:end])), 0)
        tail = fold(records[start:end])
        assert (tail.branch.final, tail.branch.unfinal, tail.branch.open) == (
            whole.branch.final, whole.branch.unfinal, whole.branch.open,
        )  # fmt: skip
        assert [one.records for one in tail.unfinal] == [one.records for one in whole.unfinal]
        above = (whole.branch.final or (0, ""))[0] + 1
        for number in range(above, above + 12):
            for name in "abc":
                found = block_hash(number, name)
                assert tail.branch.incarnation(number, found) == whole.branch.incarnation(number, found)


def journal(path: Path) -> Journal:
    return Journal(path, "16384", lambda value: CODEC.decode(value)[1])  # type: ignore[return-value,arg-type]


def test_the_journal_keeps_what_was_synced_and_drops_what_was_cut_off(tmp_path: Path) -> None:
    first, second = told(1, transactions=[transaction(0, raw=5000)]), told(2)
    kept = journal(tmp_path)
    kept.append(LINE.messages(first.records))
    kept.append(LINE.messages(second.records))
    kept.close()
    whole = (tmp_path / "16384.unfinal").read_bytes()
    for cut in (1, 3, 4, 50):
        (tmp_path / "16384.unfinal").write_bytes(whole + whole[:cut])
        again = journal(tmp_path)
        assert again.read() == [*first.records, *second.records]
        third = told(3)
        again.append(LINE.messages(third.records))
        assert again.read() == [*first.records, *second.records, *third.records]
        again.close()
        (tmp_path / "16384.unfinal").write_bytes(whole)


def test_the_journal_remembers_incarnations_of_final_blocks_for_ever(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    kept.append(LINE.messages(told(1, incarnation=3).again("final", 9)))
    kept.append(LINE.messages(told(2, incarnation=1).again("retracted", 9)))
    kept.append(LINE.messages(told(4).again("final", 9)))
    kept.keep([])
    kept.close()
    assert journal(tmp_path).incarnations == {block_hash(1): 3}
    assert journal(tmp_path).read() == []
    assert journal(tmp_path).highest == 4


def test_a_block_that_was_final_at_once_leaves_only_its_name(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    kept.append(LINE.messages(told(7, finality="final", incarnation=2).records))
    assert kept.read() == [] and kept.highest == 7 and kept.incarnations == {block_hash(7): 2}


@pytest.mark.parametrize("seed", range(4))
def test_a_shortened_journal_leaves_the_same_branch(tmp_path: Path, seed: int) -> None:
    records = [{**record, "was_head": record["finality"] != "head"} for record in history(seed)]
    kept = Journal(tmp_path, "x", lambda value: CODEC.decode(value)[1], kept_bytes=3_000_000)  # type: ignore[return-value,arg-type]
    kept.begin("one")
    shortened = 0
    for record in records:
        size = (tmp_path / "x.unfinal").stat().st_size
        kept.append(LINE.messages([record]))  # type: ignore[list-item]
        kept.shorten()
        shortened += (tmp_path / "x.unfinal").stat().st_size < size
    whole, short = fold(records), fold(kept.read())  # type: ignore[arg-type]
    assert shortened and len(kept.read()) < len(records)
    assert (short.branch.unfinal, short.branch.open) == (whole.branch.unfinal, whole.branch.open)
    assert kept.read()[0]["finality"] == "head" and kept.read()[0]["chunk"] == 0


def test_a_new_broker_knows_nothing_and_the_same_one_what_it_was_told(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    assert kept.begin("one") == (0, False)
    kept.told_again(3, False)
    assert journal(tmp_path).begin("one") == (3, False)
    kept.told_again(7, True)
    assert journal(tmp_path).begin("one") == (7, True)
    assert journal(tmp_path).begin("two") == (0, False)


def test_a_shortened_journal_still_counts_what_may_come_back(tmp_path: Path) -> None:
    """10a was told and taken back, and nothing is final since: it may come back, as the second of its name."""
    kept = Journal(tmp_path, "x", lambda value: CODEC.decode(value)[1], kept_bytes=300_000)  # type: ignore[return-value,arg-type]
    kept.begin("one")
    kept.append(LINE.messages(told(9).again("final", 9)))
    lost = told(10)
    kept.append([*LINE.messages(lost.records), *LINE.messages(lost.again("retracted", 10))])
    for number in range(10, 15):
        block = told(number, "b", "a" if number == 10 else "b", [transaction(0, raw=200_000)])
        kept.append(LINE.messages(block.records))
        kept.shorten()
    branch = fold(kept.read()).branch
    assert branch.incarnation(10, block_hash(10)) == 1
    assert [one.number for one in branch.unfinal] == [10, 11, 12, 13, 14]


def test_the_journal_keeps_the_last_word_on_each_contract(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    kept.told([{"contract": "a", "sequence": 1}, {"contract": "b", "sequence": 1}])
    kept.told([{"contract": "a", "sequence": 2}])
    with (tmp_path / "16384.contracts").open("a") as out:
        out.write('{"contract": "c", "seq')
    assert journal(tmp_path).contracts() == [
        {"contract": "a", "sequence": 2},
        {"contract": "b", "sequence": 1},
    ]
