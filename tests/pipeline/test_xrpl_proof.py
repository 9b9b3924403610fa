"""Roots of every recorded ledger in every shape equal those that the network wrote; a changed digit shows."""

from __future__ import annotations

import copy
import gzip
import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.decode.xrpl_errors import NotALedger, NotValidated
from pipeline.domain.decode.xrpl_shapes import read_header, split_ledger
from pipeline.domain.proof_errors import Contradiction, Unprovable
from pipeline.domain.xrpl_encode import encode_entry, encode_metadata, encode_transaction
from pipeline.domain.xrpl_proof import state_root, transaction_root
from pipeline.ingest.recorded import read_ledgers
from tests.pipeline.test_xrpl_hash import NO_TREE

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "pipeline/recordings/xrpl-standalone.jsonl.gz"
DATA = ROOT / "tests/data"
SHARED = ROOT.parent / "shared/data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the shared recordings are not here")


def load(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


@cache
def standalone() -> list[dict[str, Any]]:
    with gzip.open(RECORDED) as lines:
        return [json.loads(line) for line in lines]


def check(recorded: Any) -> int:
    """Transactions whose root was found to hold."""
    header = read_header(split_ledger(recorded))
    assert transaction_root(recorded) == header["transaction_hash"], header["ledger_index"]
    return len(split_ledger(recorded).transactions)


def test_every_ledger_of_the_recorded_chain() -> None:
    assert len(standalone()) == 353
    assert sum(check(answer) for answer in standalone()) == 988


def files(root: Path) -> list[Any]:
    return [
        pytest.param(path, id=f"{path.parent.name}/{path.name.split('.')[0]}")
        for path in sorted(root.glob("xrpl/ledgers*/*.json.gz"))
        if int(path.name.split(".")[0]) not in NO_TREE
    ]


@pytest.mark.parametrize("path", files(DATA))
def test_mainnet_ledgers(path: Path) -> None:
    """2013 with negative XRP, 2015, 2024, 2026; api_version 1 and 2, and binary."""
    assert check(load(path)) > 0


@needs_shared
@pytest.mark.parametrize("path", files(SHARED))
def test_more_mainnet_ledgers(path: Path) -> None:
    assert check(load(path)) > 0


@pytest.mark.parametrize("version", ["api1", "api2"])
def test_ledgers_put_together_from_a_stream(version: str) -> None:
    """The messages do not tell the root: it is that of the ledger as it was asked for, or its header's hash."""
    known = {11119600: "6151873DAFF5331205B0F1EA1DDFAF3851979F5B34765BF7D180E6784F0481EE"}
    path = DATA / f"xrpl/streams/constructed_11119599-11119600_{version}.jsonl.gz"
    for recorded in read_ledgers([path]):
        index = read_header(split_ledger(recorded))["ledger_index"]
        if index in known:
            assert transaction_root(recorded) == known.pop(index)
    assert not known


@needs_shared
@pytest.mark.parametrize("name", ["stream", "stream-v1-sample", "ledgers-v1-sample", "ledgers-binary-sample"])
def test_other_shapes_of_the_recorded_chain(name: str) -> None:
    roots = {int(one["ledger"]["ledger_index"]): one["ledger"]["transaction_hash"] for one in standalone()}
    found = 0
    for recorded in read_ledgers([SHARED / f"xrpl-standalone/{name}.jsonl.gz"]):
        index = read_header(split_ledger(recorded))["ledger_index"]
        assert transaction_root(recorded) == roots[index], index
        found += 1
    assert found >= 6


def a_ledger() -> dict[str, Any]:
    """A copy of the recorded ledger with most transactions."""
    return copy.deepcopy(max(standalone(), key=lambda one: len(one["ledger"]["transactions"])))


def test_a_transaction_that_does_not_fit_its_hash() -> None:
    answer = a_ledger()
    answer["ledger"]["transactions"][0]["tx_json"]["Sequence"] += 1
    with pytest.raises(Contradiction, match="hashes to") as caught:
        transaction_root(answer)
    assert caught.value.reason == "transaction_id"


def test_every_number_of_the_metadata_is_part_of_the_root() -> None:
    answer = a_ledger()
    entry = answer["ledger"]["transactions"][0]
    changed = 0
    for holder, name in list(numbers(entry["meta"])):
        before = holder[name]
        holder[name] = before + 1 if isinstance(before, int) else str(int(before) + 1)
        assert transaction_root(answer) != answer["ledger"]["transaction_hash"], name
        holder[name] = before
        changed += 1
    assert changed > 5
    check(answer)


def numbers(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, inner in items:
        if isinstance(inner, (dict, list)):
            yield from numbers(inner)
        elif isinstance(inner, int) or (name == "Balance" and isinstance(inner, str)):
            yield value, name


def test_a_transaction_too_few_twice_or_changed_for_another() -> None:
    answer = a_ledger()
    entries = answer["ledger"]["transactions"]
    root = answer["ledger"]["transaction_hash"]
    answer["ledger"]["transactions"] = entries[1:]
    assert transaction_root(answer) != root
    answer["ledger"]["transactions"] = [*entries, entries[0]]
    with pytest.raises(Contradiction) as caught:
        transaction_root(answer)
    assert caught.value.reason == "duplicate"
    answer["ledger"]["transactions"] = entries[::-1]
    assert transaction_root(answer) == root


def test_what_is_proved_is_what_is_read() -> None:
    """Sound bytes beside an invented object: the decoder reads the object, so the object is on trial."""
    answer = a_ledger()
    entry = answer["ledger"]["transactions"][0]
    sound = encode_transaction(entry["tx_json"]).hex(), encode_metadata(entry["meta"]).hex()
    entry["tx_blob"], entry["meta_blob"] = sound
    check(answer)
    entry["tx_json"]["Sequence"] += 1
    with pytest.raises(Contradiction):
        transaction_root(answer)
    del entry["tx_json"]
    check(answer)
    entry["meta"] = {}
    assert transaction_root(answer) != answer["ledger"]["transaction_hash"]
    del entry["meta"]
    check(answer)
    entry["tx"] = {"TransactionType": "Payment"}
    with pytest.raises(Contradiction):
        transaction_root(answer)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda entry: entry.pop("meta"), "has no metadata"),
        (lambda entry: entry["meta"].update(BrandNew=1), "BrandNew: no field"),
        (lambda entry: entry.update(meta="zz"), "not hex"),
        (lambda entry: entry["tx_json"].update(Fee=1.5), "Fee"),
    ],
)
def test_what_cannot_be_recomputed_says_why(change: Any, reason: str) -> None:
    answer = a_ledger()
    change(answer["ledger"]["transactions"][0])
    with pytest.raises(Unprovable, match=reason) as caught:
        transaction_root(answer)
    assert reason in caught.value.reason


def test_a_ledger_without_its_transactions() -> None:
    answer = a_ledger()
    answer["ledger"]["transactions"] = [one["hash"] for one in answer["ledger"]["transactions"]]
    with pytest.raises(Unprovable, match="expand"):
        transaction_root(answer)
    with pytest.raises(NotALedger):
        transaction_root({"status": "success"})
    with pytest.raises(NotValidated):
        transaction_root(a_ledger() | {"validated": False})


def test_state_of_the_recorded_chain() -> None:
    document = load(DATA / "xrpl-proof/state-67.json.gz")
    state = document["state"]
    assert len(state) == 300
    assert state_root(state) == document["account_hash"]
    binary = [{"index": one["index"], "data": encode_entry(one).hex()} for one in reversed(state)]
    assert state_root(binary) == document["account_hash"]
    assert state_root(state[1:]) != document["account_hash"]
    with pytest.raises(Contradiction, match="twice"):
        state_root([*state, state[0]])
    with pytest.raises(Unprovable, match="index"):
        state_root([{"LedgerEntryType": "AccountRoot"}])
    with pytest.raises(Unprovable, match="Nonsense"):
        state_root([{"index": "00" * 32, "Nonsense": 1}])


def test_state_and_transactions_of_a_whole_mainnet_ledger_of_2013() -> None:
    ledger = load(DATA / "xrpl-proof/ledger-38129.json.gz")
    assert len(ledger["accountState"]) == 261
    assert state_root(ledger["accountState"]) == ledger["account_hash"]
    assert check(ledger) == 1


@needs_shared
@pytest.mark.parametrize("number", [67, 341, 353])
def test_states_of_the_recorded_chain(number: int) -> None:
    truth = load(SHARED / f"xrpl-standalone/truth-{number}.json.gz")
    assert state_root(truth["state"]) == truth["ledger"]["account_hash"]


@pytest.mark.parametrize("path", files(DATA))
def test_shapes_of_one_ledger_have_the_same_bytes(path: Path) -> None:
    """What a recording in JSON gives again is what its own transactions' ids are made of."""
    for entry in itertools.islice(split_ledger(load(path)).transactions, 20):
        if "tx_blob" in entry:
            continue
        shown = entry.get("tx_json", entry)
        meta = entry.get("meta") or entry.get("metaData")
        assert encode_transaction(shown) == encode_transaction(dict(reversed(shown.items())))
        assert encode_metadata(meta) == encode_metadata(dict(reversed(meta.items())))
