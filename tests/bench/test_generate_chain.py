"""Generated chains are consistent, look like recorded ones, and end in the state that was promised."""

from __future__ import annotations

import copy
import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest
from xrpl.core.addresscodec import decode_classic_address
from xrpl.core.binarycodec import decode

from pipeline.domain.chain_link import BrokenChain
from pipeline.ingest.chains import Chain
from pipeline.ingest.ledgers import LedgerLine, check_root
from tests.bench.chain_state import Bag, text_of
from tests.bench.generate_chain import Expected, generate
from tests.support.canonical import blobs
from tests.support.renaming import affected_nodes
from tests.support.replay import Json, State, check_headers, replay
from tests.support.truth import RECORDED, read_ledgers, state_tables


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Json], Expected]:
    """3,000 transactions of 75 accounts."""
    path = tmp_path_factory.mktemp("chain") / "chain.jsonl.gz"
    expected = generate(path, 3_000, seed=11)
    return read_ledgers(path), expected


def entries(ledgers: Iterable[Json]) -> Iterator[Json]:
    for answer in ledgers:
        yield from answer["ledger"]["transactions"]


def end_state(ledgers: list[Json]) -> State:
    state: State = {}
    for _ in replay(ledgers, state):
        pass
    return state


def test_headers_hold(chain: tuple[list[Json], Expected]) -> None:
    ledgers, expected = chain
    assert check_headers(ledgers) == expected.ledgers == len(ledgers)
    assert ledgers[0]["ledger"]["ledger_index"] == 1
    assert int(ledgers[-1]["ledger"]["total_coins"]) == expected.total_coins == 10**17 - expected.burnt


def test_a_chain_passes_full_verification(chain: tuple[list[Json], Expected], tmp_path: Path) -> None:
    """Every check of the ingest holds; a changed transaction breaks it."""
    ledgers, _ = chain
    line = LedgerLine(Chain(1, "xrpl:generated", tmp_path / "1.chain"), False, lambda _: b"", "full")
    told = [check for ready in line.blocks(iter(ledgers)) for check in ready.checks]
    assert {check["name"] for check in told if check["outcome"] == "holds"} == {
        "parent_hash", "header_hash", "total_coins", "transaction_root"
    }  # fmt: skip
    assert Counter(check["outcome"] for check in told) == {"holds": 4 * len(ledgers) - 2, "not_applicable": 2}
    forged = copy.deepcopy(ledgers[5])
    forged["ledger"]["transactions"][0]["tx_json"]["Sequence"] += 1
    with pytest.raises(BrokenChain, match="transaction"):
        check_root(forged["ledger"], forged)


def test_replay_ends_in_what_was_promised(chain: tuple[list[Json], Expected]) -> None:
    ledgers, expected = chain
    found = state_tables(end_state(ledgers))
    assert {address: row[0] for address, row in found["accounts"].items()} == expected.accounts
    assert found["iou"] == expected.iou
    assert {nft: row[0] for nft, row in found["nfts"].items()} == expected.nfts
    assert {i: row[1] for i, row in found["mpt_issuances"].items()} == expected.mpt_issuances
    assert found["mpt_holders"] == {key: (amount, 0) for key, amount in expected.mpt_holders.items()}
    assert found["escrows"] == expected.escrows
    assert found["xrp_parts"]["sum"] == expected.total_coins
    assert all(
        len(part) > 3 for part in (expected.iou, expected.nfts, expected.mpt_holders, expected.escrows)
    )


def test_conservation_within_the_promise(chain: tuple[list[Json], Expected]) -> None:
    _, expected = chain
    held = sum(expected.accounts.values()) + sum(drops for _, _, drops in expected.escrows.values())
    assert held + expected.burnt == 10**17
    for issuance, outstanding in expected.mpt_issuances.items():
        holders = [amount for (_, i), amount in expected.mpt_holders.items() if i == issuance]
        assert sum(holders) == outstanding
    assert min(expected.accounts.values()) > 0
    assert min(expected.iou.values()) > 0


def test_every_kind_and_turn_of_events_occurs(chain: tuple[list[Json], Expected]) -> None:
    ledgers, expected = chain
    kinds = Counter(
        (t["tx_json"]["TransactionType"], t["meta"]["TransactionResult"]) for t in entries(ledgers)
    )
    nodes = Counter(
        (kind, body["LedgerEntryType"], t["tx_json"]["TransactionType"])
        for t in entries(ledgers)
        for node in t["meta"]["AffectedNodes"]
        for kind, body in node.items()
    )
    assert sum(kinds.values()) == expected.transactions == 3_000
    for kind in ("TrustSet", "OfferCancel", "NFTokenMint", "NFTokenCreateOffer", "NFTokenAcceptOffer"):
        assert kinds[kind, "tesSUCCESS"]
    for kind in ("MPTokenIssuanceCreate", "MPTokenAuthorize", "EscrowCreate", "EscrowFinish", "AccountSet"):
        assert kinds[kind, "tesSUCCESS"]
    assert kinds["Payment", "tecPATH_DRY"] and kinds["Payment", "tecUNFUNDED_PAYMENT"]
    for kind in ("CreatedNode", "ModifiedNode", "DeletedNode"):
        assert nodes[kind, "Offer", "OfferCreate"], "offers are placed, taken in part and taken whole"
        assert nodes[kind, "RippleState", "OfferCreate"], "lines are opened and closed by offers"
        assert nodes[kind, "NFTokenPage", "NFTokenAcceptOffer"]


@cache
def recorded_shapes() -> dict[tuple[str, ...], set[str]]:
    return shapes(read_ledgers(RECORDED))


def shapes(ledgers: list[Json]) -> dict[tuple[str, ...], set[str]]:
    """Which fields stand where: by transaction type, and by kind of node, entry type and part."""
    found: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for entry in entries(ledgers):
        found["entry",] |= entry.keys()
        found["transaction", entry["tx_json"]["TransactionType"]] |= entry["tx_json"].keys()
        found["meta",] |= entry["meta"].keys()
        for node in entry["meta"]["AffectedNodes"]:
            for kind, body in node.items():
                found["node", kind] |= body.keys()
                for part in ("NewFields", "FinalFields", "PreviousFields"):
                    found[kind, body["LedgerEntryType"], part] |= body.get(part, {}).keys()
    return found


def test_shapes_are_the_recorded_ones(chain: tuple[list[Json], Expected]) -> None:
    recorded = recorded_shapes()
    for where, fields in shapes(chain[0]).items():
        assert fields <= recorded[where], where
    assert chain[0][1].keys() == read_ledgers(RECORDED)[1].keys()
    assert chain[0][1]["ledger"].keys() == read_ledgers(RECORDED)[1]["ledger"].keys()


def test_sizes_are_mainnets(chain: tuple[list[Json], Expected]) -> None:
    """Mainnet of 2026 has about 2.4 kB a transaction in this shape."""
    sizes = [len(json.dumps(entry, separators=(",", ":"))) for entry in entries(chain[0])]
    assert 1_800 < sum(sizes) / len(sizes) < 2_800


def test_transactions_and_metadata_encode(chain: tuple[list[Json], Expected]) -> None:
    """Every amount, address, index and flag is one that the ledger's binary form can hold."""
    for entry in list(entries(chain[0]))[::12]:
        transaction, metadata = blobs(entry)
        assert decode(transaction.hex())["Account"] == entry["tx_json"]["Account"]
        again = decode(metadata.hex())["AffectedNodes"]
        assert len(again) == len(entry["meta"]["AffectedNodes"])


def test_order_of_application_is_not_the_order_of_the_list(chain: tuple[list[Json], Expected]) -> None:
    listed = [[t["meta"]["TransactionIndex"] for t in a["ledger"]["transactions"]] for a in chain[0]]
    assert any(places != sorted(places) for places in listed)
    assert all(sorted(places) == list(range(len(places))) for places in listed)


def test_trust_lines_stand_low_before_high(chain: tuple[list[Json], Expected]) -> None:
    created = [n["NewFields"] for n in affected_nodes(chain[0]) if "NewFields" in n]
    lines = [fields for fields in created if "LowLimit" in fields]
    assert lines
    for line in lines:
        low, high = (decode_classic_address(line[side]["issuer"]) for side in ("LowLimit", "HighLimit"))
        assert low < high


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        generate(tmp_path / name, 200, seed)
    one, same, other = ((tmp_path / name).read_bytes() for name in ("one", "same", "other"))
    assert one == same != other


@pytest.mark.parametrize("transactions", [0, 1, 7, 61])
def test_short_chains_have_exactly_what_was_asked(tmp_path: Path, transactions: int) -> None:
    expected = generate(tmp_path / "chain", transactions, seed=5, per_ledger=10)
    ledgers = read_ledgers(tmp_path / "chain")
    assert check_headers(ledgers) == expected.ledgers
    assert len(list(entries(ledgers))) == expected.transactions == transactions
    found = state_tables(end_state(ledgers))["accounts"]
    assert {address: row[0] for address, row in found.items()} == (expected.accounts if transactions else {})


def test_ledgers_have_the_size_asked_for(tmp_path: Path) -> None:
    expected = generate(tmp_path / "chain", 2_000, seed=5, per_ledger=500, accounts=30)
    assert expected.ledgers in range(4, 8)
    with gzip.open(tmp_path / "chain") as lines:
        assert max(len(line) for line in lines) > 900_000


def test_what_cannot_be_generated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="per_ledger"):
        generate(tmp_path / "chain", 10, seed=1, per_ledger=0)


@pytest.mark.parametrize(
    ("units", "scale", "text"),
    [(0, 4, "0"), (-1, 9, "-0.000000001"), (120_000, 4, "12"), (-125_000, 4, "-12.5"), (7, 0, "7")],
)
def test_text_of_units(units: int, scale: int, text: str) -> None:
    assert text_of(units, scale) == text
    assert Decimal(text) == Decimal(units).scaleb(-scale)


def test_bag() -> None:
    bag: Bag[str] = Bag()
    items = [f"item {i}" for i in range(4)]
    for item in items:
        bag.add(item)
    bag.remove(items[1])
    bag.remove(items[3])
    assert sorted(bag.items) == [items[0], items[2]]
    with pytest.raises(KeyError):
        bag.remove(items[1])
