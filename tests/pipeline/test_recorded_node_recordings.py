"""Recordings of every age and shape are served in today's, whole and provable as far as they tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.decode.xrpl import decode_ledger
from pipeline.domain.xrpl_hash import ledger_hash
from pipeline.domain.xrpl_proof import transaction_root
from pipeline.recorded_node.tape import Tape, TapeError, ranges_of, recorded_ledgers
from tests.support.canonical import header_fields
from tests.support.recorded_node import SHARED, PureNode, data, standalone_tape

MAINNET = SHARED / "xrpl"
FOLDERS = ("ledgers", "ledgers_v2", "ledgers_2013", "ledgers_2013_v2", "ledgers_modern", "ledgers_modern_v2",
           "ledgers_binary")  # fmt: skip
whole = {"transactions": True, "expand": True}


def test_the_whole_recorded_chain_proves_itself_over_the_node() -> None:
    """Each answer's header hash holds and its transactions' root is the header's, in both api versions."""
    node = PureNode()
    for index in (1, 2, 3, 13, 60, 200, 343, 353):
        for version in (1, 2):
            answer = node.ask({"command": "ledger", "ledger_index": index, "api_version": version} | whole)[
                "result"
            ]
            header = answer["ledger"]
            assert ledger_hash(header_fields(header)) == header["ledger_hash"]
            assert transaction_root(answer) == header["transaction_hash"]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.skipif(not MAINNET.exists(), reason="the mainnet recordings beside the project are not here")
def test_mainnet_recordings_are_served_as_they_decode(folder: str) -> None:
    files = sorted((MAINNET / folder).glob("*.json.gz"))
    originals = {decode_ledger(each)[0]["ledger_index"]: each for each in recorded_ledgers(files)}
    node = PureNode(sources=files)
    for index, original in originals.items():
        header, transactions = decode_ledger(original)
        answers = [
            node.ask({"command": "ledger", "ledger_index": index, "api_version": version} | whole)["result"]
            for version in (1, 2)
        ]
        for answer in answers:
            shown, found = decode_ledger(answer)
            assert effects(found) == effects(transactions), index
            assert {name: shown[name] for name in header if header[name] is not None} == {
                name: value for name, value in header.items() if value is not None
            }
        shown = answers[1]["ledger"]
        if "total_coins" in shown:
            assert ledger_hash(header_fields(shown)) == shown["ledger_hash"], index


def effects(transactions: list[Any]) -> list[Any]:
    """What the transactions did, without the recording's own words."""
    return [(tx["hash"], tx["result"], tx["fee"], tx["balance_changes"]) for tx in transactions]


@pytest.mark.skipif(not MAINNET.exists(), reason="the mainnet recordings beside the project are not here")
def test_the_mainnet_gap_is_a_hole() -> None:
    """11119605 and 11119606 are in no recording; parent_close_time, which 2015 left out, is found by the hash."""
    node = PureNode(sources=[MAINNET / "ledgers"], network_id=0)
    assert node.result("server_info")["info"]["complete_ledgers"] == "11119599-11119604,11119607-11119618"
    assert node.ask({"command": "ledger", "ledger_index": 11119605})["error"] == "lgrNotFound"
    shown = node.result("ledger", ledger_index=11119607)["ledger"]
    assert ledger_hash(header_fields(shown)) == shown["ledger_hash"]
    assert "parent_close_time" in shown and shown["close_flags"] == 0


@pytest.mark.skipif(not MAINNET.exists(), reason="the mainnet recordings beside the project are not here")
def test_a_full_early_ledger_is_a_snapshot() -> None:
    tape = Tape(recorded_ledgers([MAINNET / "ledgers"]))
    assert tape.ranges == [(11119599, 11119604), (11119607, 11119618)]
    assert tape.index_with(tape.record(11119600)["ledger"]["transactions"][0]["hash"]) == 11119600


def test_a_ledger_recorded_twice_is_kept_once() -> None:
    record = standalone_tape().record(343)
    assert Tape([record, data("ledger-343-shapes.json.gz")["v1"]]).order == [343]
    forged = {**record, "ledger": record["ledger"] | {"ledger_hash": "AB" * 32}}
    with pytest.raises(TapeError, match="ledger 343 stands twice"):
        Tape([record, forged])


def test_bad_recordings_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match="no such file"):
        Tape(recorded_ledgers([tmp_path / "absent.jsonl"]))
    for name, text, reason in (
        ("empty.json", "", "the file is empty"),
        ("cut.json", '{"ledger": {"led', "cut off"),
        ("other.json", '{"a": 1}', "belongs to no recorded ledger"),
        (
            "unexpanded.json",
            '{"ledger": {"ledger_index": 5, "transactions": ["AB"]}, "validated": true}',
            "expand",
        ),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(TapeError, match=reason) as error:
            Tape(recorded_ledgers([tmp_path / name]))
        assert "\n" not in str(error.value)
    with pytest.raises(TapeError, match="holds no ledger"):
        Tape([])


def test_ranges() -> None:
    assert list(ranges_of([1, 2, 3, 7, 9, 10])) == [(1, 3), (7, 7), (9, 10)]
