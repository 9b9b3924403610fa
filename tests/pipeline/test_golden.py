"""The golden cases: what each event type means, as a file that a person can read.

`tests/golden/<domain>/<NAME>.json` (and `<NAME>.<what>.json`): events before, the event, its outcome, the states
that it changes, what it asks of the books, what else it tells. `funds`, such as {"offchain/USD/USER/alice": "100000"}
in the book's smallest units, is in the books before anything happens: money that another topic has brought. To write
what comes out into the files, then read the diff: `GOLDEN_REWRITE=1 pytest tests/pipeline/test_golden.py -k NAME`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.catalog import APPLICATIONS
from pipeline.domain.account import AccountCode, AccountRef, TransferCode
from pipeline.domain.applications.event import AppTopic
from pipeline.domain.flows.events import EventName, FlowEvent, Kind, Leg
from sinks.offchain import OffchainBooks
from tests.support.applications import codec, event_of, fold_of, record_of, told_of

GOLDEN = Path(__file__).parents[1] / "golden"
ROWS = {row.domain: row for row in APPLICATIONS}
CASES = sorted(path for path in GOLDEN.rglob("*.json"))
TOLD = ("outcome", "states", "flow", "emits", "alerts")
REWRITE = os.environ.get("GOLDEN_REWRITE") == "1"
CODEC = codec()


def row_of(path: Path) -> AppTopic:
    return ROWS[path.parent.name]


def name_of(path: Path) -> str:
    return path.name.split(".")[0]


def read(path: Path) -> dict[str, Any]:
    return orjson.loads(path.read_bytes())


def told(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, JSON form) of a case's events, the last one is the event itself."""
    case = read(path)
    for place, one in enumerate([*case.get("before", ()), case["event"]], 1):
        yield f"e{place}", one


def fund(books: OffchainBooks, funds: Mapping[str, str]) -> None:
    """Accounts `<asset>/<CODE>/<owner>` are opened and get units from their book's TREASURY."""
    for place, (account, amount) in enumerate(funds.items()):
        asset, code, owner = account.rsplit("/", 2)
        to, treasury = (
            AccountRef(asset, AccountCode[code], owner),
            AccountRef(asset, AccountCode.TREASURY, ""),
        )
        books.store.create_accounts([to])
        leg = Leg(treasury, to, int(amount), int(TransferCode.DEPOSIT))
        name = EventName("golden", "funds", str(place))
        (outcome,) = books.apply([FlowEvent(kind=Kind.POST, name=name, time_ms=1, legs=(leg,))])
        assert outcome.refused is None, f"funds: {account}: {outcome.refused}"


def parameters() -> list[Any]:
    return [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in CASES]


@pytest.mark.parametrize("path", parameters())
def test_golden(path: Path) -> None:
    row, case = row_of(path), read(path)
    events = [event_of(row, one, id) for id, one in told(path)]
    assert events[-1].type == name_of(path), "the file's name is its event's type"
    fold = fold_of(row)
    try:
        if case.get("funds"):
            fund(fold.books, case["funds"])
        for judged in fold.apply(events[:-1]):
            assert judged.refused is None, f"before: {judged.event.type} {judged.event.id}: {judged.refused}"
        found = told_of(fold, fold.one(events[-1]))
    finally:
        fold.close()
    if REWRITE:
        case.update(found)
        path.write_bytes(orjson.dumps(case, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        return
    assert {name: case.get(name) for name in TOLD} == orjson.loads(orjson.dumps(found))


@pytest.mark.parametrize("path", parameters())
def test_every_event_passes_through_its_schema(path: Path) -> None:
    """Encoded and decoded again it is the same event."""
    row = row_of(path)
    for id, one in told(path):
        event = event_of(row, one, id)
        message = CODEC.encode(row.topic, record_of(row, event), strict=True)
        assert row.event(CODEC.decode(message, row.topic)[1]) == event


@pytest.mark.parametrize("row", APPLICATIONS, ids=lambda row: row.domain)
def test_every_event_type_has_a_case_and_every_case_a_type(row: AppTopic) -> None:
    files = {path.name for path in CASES if path.parent.name == row.domain}
    missing = sorted(name for name in row.types if f"{name}.json" not in files)
    assert not missing, f"{row.domain}: no golden case for {', '.join(missing)}"
    assert {name.split(".")[0] for name in files} <= set(row.types)


@pytest.mark.parametrize("row", APPLICATIONS, ids=lambda row: row.domain)
def test_the_first_case_of_a_type_is_applied(row: AppTopic) -> None:
    """A refusal is worth a file of its own, `<NAME>.<what>.json`."""
    plain = [path for path in CASES if path.parent.name == row.domain and path.stem == name_of(path)]
    refused = [path.stem for path in plain if read(path)["outcome"]["status"] != "applied"]
    assert not refused
    assert all(read(path).get("doc") for path in plain)
