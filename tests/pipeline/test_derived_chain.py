"""The chain that tests derive from the recorded one is a chain of its own, with a truth of its own."""

from __future__ import annotations

import copy
import gzip
import json
from functools import cache
from pathlib import Path

import pytest
from xrpl.core.addresscodec import decode_classic_address

from tests.support.canonical import tree_root
from tests.support.derive_chain import GENESIS_ACCOUNT, Derived, derive
from tests.support.renaming import Renaming, affected_nodes, flip_flags, flip_line, line_ends, negated
from tests.support.replay import HistoryError, Json, check_headers, replay
from tests.support.shapes import as_api_version_1, as_recorded_in_2015
from tests.support.truth import (
    RECORDED,
    TRUTH_LEDGERS,
    read_ledgers,
    read_truth,
    state_tables,
    truth_tables,
)

V1_SAMPLE = Path(__file__).parents[3] / "shared/data/xrpl-standalone/ledgers-v1-sample.jsonl.gz"


@cache
def recorded() -> list[Json]:
    return read_ledgers(RECORDED)


@cache
def derived(seed: int, *, share_genesis: bool = False) -> Derived:
    return derive(recorded(), seed, share_genesis=share_genesis)


def states(ledgers: list[Json]) -> dict[int, Json]:
    return {index: state_tables(state) for index, state in replay(ledgers) if index in TRUTH_LEDGERS}


def applied_order(ledgers: list[Json]) -> list[list[str]]:
    """Transaction ids of each ledger in the order of application."""
    return [
        [
            t["hash"]
            for t in sorted(one["ledger"]["transactions"], key=lambda t: t["meta"]["TransactionIndex"])
        ]
        for one in ledgers
    ]


def test_recorded_chain_replays_to_the_nodes_own_state() -> None:
    """The auditor itself is right: on the real chain it finds what the real node says."""
    assert check_headers(recorded()) == 353
    found = states(recorded())
    for index in TRUTH_LEDGERS:
        assert found[index] == truth_tables(read_truth(index)), index


@pytest.mark.parametrize(("seed", "share_genesis"), [(1, False), (2, True)])
def test_derived_chain_replays_to_the_renamed_state(seed: int, share_genesis: bool) -> None:
    chain = derived(seed, share_genesis=share_genesis)
    assert check_headers(chain.ledgers) == 353
    found = states(chain.ledgers)
    for index in TRUTH_LEDGERS:
        truth = chain.truth_map(read_truth(index))
        assert found[index] == truth_tables(truth), index
        assert truth["ledger_hash"] == chain.ledgers[index - 1]["ledger_hash"]
        assert found[index] != truth_tables(read_truth(index))


def test_transaction_trees_of_the_derived_chain_are_real() -> None:
    for answer in derived(1).ledgers[:12]:
        ledger = answer["ledger"]
        assert tree_root(ledger["transactions"]) == ledger["transaction_hash"], ledger["ledger_index"]


def test_no_old_name_is_left() -> None:
    """Neither an address nor an account id, a transaction, a ledger or an entry of the old chain."""
    text = json.dumps(derived(1).ledgers)
    entries = {node["LedgerIndex"] for node in affected_nodes(recorded())}
    hashes = {t for order in applied_order(recorded()) for t in order} | {
        a["ledger_hash"] for a in recorded()
    }
    accounts = set(read_truth(353)["tables"]["accounts"])
    ids = {nft_id[8:48] for nft_id in read_truth(353)["tables"]["nfts"]}
    left = [old for old in entries | hashes | accounts | ids if old in text]
    assert len(entries) > 400
    assert left == []


def test_a_shared_genesis_is_shared() -> None:
    shared, own = derived(2, share_genesis=True), derived(1)
    assert shared.ledgers[0] == recorded()[0] != own.ledgers[0]
    assert shared.ledgers[1]["ledger_hash"] != recorded()[1]["ledger_hash"]
    assert (
        shared.renaming.address(GENESIS_ACCOUNT) == GENESIS_ACCOUNT != own.renaming.address(GENESIS_ACCOUNT)
    )
    assert GENESIS_ACCOUNT not in json.dumps(own.ledgers)


def test_what_must_stay_stays() -> None:
    for old, new in zip(recorded(), derived(1).ledgers, strict=True):
        for name in ("ledger_index", "total_coins", "close_time", "parent_close_time"):
            assert old["ledger"][name] == new["ledger"][name]
        kinds = [
            sorted(
                (t["tx_json"]["TransactionType"], t["meta"]["TransactionResult"], t["tx_json"]["Fee"])
                for t in one["ledger"]["transactions"]
            )
            for one in (old, new)
        ]
        assert kinds[0] == kinds[1]


def test_order_of_application_changes_where_it_may() -> None:
    renamed = derived(1).renaming.transactions
    places = [
        ([renamed[h] for h in old], new)
        for old, new in zip(applied_order(recorded()), applied_order(derived(1).ledgers), strict=True)
    ]
    moved = sum(a != b for old, new in places for a, b in zip(old, new, strict=True))
    assert all(sorted(old) == sorted(new) for old, new in places)
    assert moved > 500
    for answer in derived(1).ledgers:
        listed = [t["hash"] for t in answer["ledger"]["transactions"]]
        assert listed == sorted(listed)


def line_ids(ledgers: list[Json]) -> dict[str, tuple[bytes, bytes]]:
    """Account ids of each trust line, low and high."""
    ends = {n["LedgerIndex"]: line_ends(n) for n in affected_nodes(ledgers) if "RippleState" in n.values()}
    return {i: (decode_classic_address(e[0]), decode_classic_address(e[1])) for i, e in ends.items() if e}


def test_trust_lines_swap_sides() -> None:
    """Every line stands low before high, and a good part of them the other way round than before."""
    chain = derived(1)
    new = line_ids(chain.ledgers)
    assert all(low < high for low, high in new.values())
    old = line_ids(recorded())
    swapped = [new[chain.renaming.entry(i)][0][16:] != low[16:] for i, (low, _) in old.items()]
    assert 20 < sum(swapped) < len(old) - 20


def test_seed_decides() -> None:
    part = recorded()[:6]
    assert derive(part, 5).ledgers == derive(part, 5).ledgers
    one, other = derive(part, 5).ledgers, derive(part, 6).ledgers
    assert {a["ledger_hash"] for a in one}.isdisjoint(a["ledger_hash"] for a in other)


def test_the_recording_is_not_changed() -> None:
    part = recorded()[:6]
    before = copy.deepcopy(part)
    derive(part, 5)
    assert part == before


@pytest.mark.parametrize("shape", [as_api_version_1, lambda a: as_recorded_in_2015(as_api_version_1(a))])
def test_older_shapes_give_the_same_chain(shape) -> None:  # type: ignore[no-untyped-def]
    part = recorded()[:30]
    old_shape = derive([shape(answer) for answer in part], 1).ledgers
    assert check_headers(old_shape) == 30
    assert [a["ledger_hash"] for a in old_shape] == [a["ledger_hash"] for a in derived(1).ledgers[:30]]
    assert old_shape[-1] == shape(derived(1).ledgers[29])


@pytest.mark.skipif(not V1_SAMPLE.exists(), reason="the shared recording in API version 1 is not here")
def test_api_version_1_is_the_nodes_own_shape() -> None:
    by_index = {answer["ledger_index"]: answer for answer in recorded()}
    with gzip.open(V1_SAMPLE) as lines:
        samples = [json.loads(line) for line in lines]
    assert [as_api_version_1(by_index[one["ledger_index"]]) for one in samples] == samples


def test_the_auditor_finds_what_is_wrong() -> None:
    """Two dependent transactions in the wrong order, a changed fee, a changed header."""
    part = copy.deepcopy(recorded()[:6])
    metas = sorted(
        (t["meta"] for t in part[2]["ledger"]["transactions"]), key=lambda m: m["TransactionIndex"]
    )
    metas[0]["TransactionIndex"], metas[1]["TransactionIndex"] = 1, 0
    with pytest.raises(HistoryError, match="ledger 3 transaction"):
        list(replay(part))
    part = copy.deepcopy(recorded()[:6])
    part[2]["ledger"]["transactions"][0]["tx_json"]["Fee"] = "1"
    with pytest.raises(HistoryError, match="total_coins"):
        check_headers(part)
    part = copy.deepcopy(recorded()[:6])
    part[3]["ledger"]["close_time"] += 1
    with pytest.raises(HistoryError, match="ledger 4: ledger_hash"):
        check_headers(part)


def test_renaming_of_single_names() -> None:
    renaming = Renaming(3)
    nft = "0009000056702189A0178930A767374B33E794D68EE6397C93E8B1E100000028"
    new = renaming.nft(nft)
    assert new[:8] + new[40:] == nft[:8] + nft[40:]
    assert new[8:40] != nft[8:40]
    assert renaming.issuance("00000012" + nft[8:48]) == "00000012" + new[8:48]
    assert renaming.address("not an address") == "not an address"
    assert renaming.address("rrrrrrrrrrrrrrrrrrrrBZbvji") == "rrrrrrrrrrrrrrrrrrrrBZbvji"
    assert renaming.entry("0" * 64) == "0" * 64


def test_a_flipped_line() -> None:
    """Sides swap with their limits, nodes, qualities and flags; lsfAMMNode has no side; twice is nothing."""
    line = {
        "Balance": {"currency": "USD", "issuer": "rrrrrrrrrrrrrrrrrrrrBZbvji", "value": "-1.5"},
        "Flags": 0x0001_0000 | 0x0080_0000 | 0x0100_0000,
        "LowLimit": {"currency": "USD", "issuer": "rLow", "value": "7"},
        "HighLimit": {"currency": "USD", "issuer": "rHigh", "value": "0"},
        "LowNode": "0",
        "HighQualityIn": 9,
    }
    flipped = flip_line(line)
    assert flipped["Balance"]["value"] == "1.5"
    assert (flipped["LowLimit"]["issuer"], flipped["HighLimit"]["issuer"]) == ("rHigh", "rLow")
    assert flipped["Flags"] == 0x0002_0000 | 0x0040_0000 | 0x0100_0000
    assert (flipped["HighNode"], flipped["LowQualityIn"]) == ("0", 9)
    assert flip_line(flipped) == line
    assert flip_flags(flip_flags(0x0715_0000)) == 0x0715_0000
    assert [negated(v) for v in ("0", "-0", "0.0", "1e-80", "-1e-80")] == [
        "0",
        "-0",
        "0.0",
        "-1e-80",
        "1e-80",
    ]
