"""Taking a state from nodes that may err, lie, or fall silent: only what is proven is published."""

import asyncio

import pytest

from pipeline.ingest import state_pages
from pipeline.ingest.snapshot import take_snapshot
from pipeline.ingest.spool import RawEntry, Spool
from pipeline.ingest.state_pages import SnapshotError
from schemas.codec import local_codec
from tests.support.states import StateNode, binary, headers, ledger_38129, node_67, state_67

CODEC = local_codec()


def take(node, directory, **options):
    index = int(node.header["ledger_index"])
    return asyncio.run(take_snapshot(node.ask, index, directory, pause_s=0, **options))


def pages(snapshot, **options):
    out = list(snapshot.messages(CODEC, "xrpl:test", 16384, partition=3, **options))
    return out, [CODEC.decode(message.value)[1] for message in out]


@pytest.fixture
def small_pages(monkeypatch):
    """Messages of few entries, so that a state has many."""
    monkeypatch.setattr(state_pages, "PAGE_ENTRIES", 32)


def test_a_state_is_proven_and_published_whole(tmp_path, small_pages):
    node = node_67()
    snapshot = take(node, tmp_path)
    assert [(check["name"], check["outcome"]) for check in snapshot.checks] == [
        ("header_hash", "holds"), ("account_hash", "holds"), ("state_coins", "holds"),
    ]  # fmt: skip
    assert (snapshot.entries, snapshot.unseen, snapshot.run) == (300, 0, 68)
    pins = [r for r in node.requests if r["command"] == "ledger_data"]
    assert [r["ledger_index"] for r in pins] == [67] * 8
    assert all(r["binary"] is True for r in pins)
    out, records = pages(snapshot)
    assert {(m.topic, m.key, m.partition) for m in out} == {("xrpl.states.v1", b"xrpl:test", 3)}
    assert [r["page"] for r in records] == list(range(10))
    assert [r["last"] for r in records] == [False] * 9 + [True]
    assert sum(r["entries"] for r in records) == 300
    assert {(r["run"], r["ledger_index"], r["total_coins"]) for r in records} == {
        (68, 67, int(headers()[67]["total_coins"]))
    }
    numbers = [row["row_number"] for r in records for row in r["mpts"]]
    assert numbers == list(range(1, 41))
    snapshot.discard()
    assert not list(tmp_path.iterdir())


def test_messages_are_the_same_from_whatever_nodes(tmp_path, small_pages):
    first, _ = pages(take(node_67(page=300), tmp_path / "a"))
    for number, options in enumerate([{"page": 7}, {"page": 1}, {"as_json": True}]):
        other, _ = pages(take(node_67(**options), tmp_path / str(number)))
        assert other == first
    rest, _ = pages(take(node_67(page=64), tmp_path / "rest"), first_page=6)
    assert rest == first[6:]


def test_messages_stay_below_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(state_pages, "PAGE_BYTES", 3000)
    out, records = pages(take(node_67(), tmp_path))
    assert len(out) > 10
    assert all(len(m.value) <= 3000 or r["entries"] == 1 for m, r in zip(out, records, strict=True))
    assert [r["page"] for r in records] == list(range(len(out)))
    assert sum(r["entries"] for r in records) == 300
    assert [row["row_number"] for r in records for row in r["mpts"]] == list(range(1, 41))


def change(entry, **fields):
    return {**entry, **fields}


def first_of(entries, kind):
    return next(e for e in entries if e["LedgerEntryType"] == kind)


def one_changed(entries):
    rich = first_of(entries, "AccountRoot")
    return [change(e, Balance=str(int(e["Balance"]) + 1)) if e is rich else e for e in entries]


def moved_between_two(entries):
    """The sum stays: only the root tells."""
    one, other = [e for e in entries if e["LedgerEntryType"] == "AccountRoot"][:2]
    swap = {one["index"]: int(one["Balance"]) - 5, other["index"]: int(other["Balance"]) + 5}
    return [change(e, Balance=str(swap[e["index"]])) if e["index"] in swap else e for e in entries]


def one_missing(entries):
    return [e for e in entries if e is not first_of(entries, "RippleState")]


def one_more(entries):
    made = change(first_of(entries, "Ticket"), index="0" * 63 + "1")
    return [made, *entries]


@pytest.mark.parametrize("forge", [one_changed, moved_between_two, one_missing, one_more])
def test_a_state_that_is_not_the_headers_is_refused(tmp_path, forge):
    with pytest.raises(SnapshotError, match="has the root") as refused:
        take(StateNode(headers()[67], forge(state_67())), tmp_path)
    assert refused.value.reason == "account_hash"
    assert not list(tmp_path.iterdir())  # and the next attempt begins anew


def test_coins_that_are_not_the_headers_are_refused(tmp_path, monkeypatch):
    """A header whose hash and root hold, of a ledger whose coins do not: a decoder that misreads."""
    monkeypatch.setattr("pipeline.domain.decode.xrpl_effects.READERS", {})
    with pytest.raises(SnapshotError) as refused:
        take(node_67(), tmp_path)
    assert refused.value.reason in ("total_coins", "unreadable")


def test_entries_of_unknown_types_may_hold_what_is_unseen(tmp_path, monkeypatch):
    from pipeline.domain.decode import xrpl_effects, xrpl_state

    known = {kind: reader for kind, reader in xrpl_effects.READERS.items() if kind != "Escrow"}
    monkeypatch.setattr(xrpl_effects, "READERS", known)
    monkeypatch.setattr(xrpl_state, "READERS", known)
    snapshot = take(node_67(), tmp_path)
    escrowed = sum(
        int(e["Amount"])
        for e in state_67()
        if e["LedgerEntryType"] == "Escrow" and isinstance(e["Amount"], str)
    )
    assert (snapshot.unseen, snapshot.unknown) == (escrowed, {"Escrow": 10})
    assert snapshot.checks[2]["outcome"] == "not_applicable"
    assert "Escrow" in snapshot.checks[2]["detail"]


@pytest.mark.parametrize(
    "lie",
    [
        {"total_coins": "99999999989986865"}, {"ledger_hash": "A" * 64}, {"account_hash": "A" * 64},
        {"ledger_index": 68}, {"account_hash": None},
    ],
)  # fmt: skip
def test_a_forged_header_is_refused_and_another_node_asked(tmp_path, lie):
    told = []

    def spoil(request, answer):
        if request["command"] == "ledger" and not told:
            return {**answer, "ledger": {**answer["ledger"], **lie}}
        return answer

    snapshot = take(node_67(spoil=spoil), tmp_path, refuse=told.append)
    assert len(told) == 1
    assert "ledger 67" in told[0]
    assert snapshot.unseen == 0


def test_an_open_ledger_is_no_starting_state(tmp_path):
    node = node_67(spoil=lambda request, answer: {**answer, "validated": False})
    with pytest.raises(SnapshotError, match="no node gives it: not a validated ledger") as refused:
        take(node, tmp_path, attempts=3)
    assert refused.value.reason == "no_answer"
    assert len(node.requests) == 3


def other_ledger(answer):
    return {**answer, "ledger_index": 66}


def other_fork(answer):
    return {**answer, "ledger_hash": "B" * 64}


def backwards(answer):
    return {**answer, "state": answer["state"][::-1]}


def twice(answer):
    return {**answer, "state": [answer["state"][0], *answer["state"]]}


def nothing(answer):
    return {**answer, "state": [], "marker": "C" * 64}


def no_hex(answer):
    return {**answer, "state": [{**answer["state"][0], "data": "xy"}]}


def an_error(answer):
    return {"error": "tooBusy", "status": "error"}


def no_state(answer):
    return {name: value for name, value in answer.items() if name != "state"}


def an_earlier_page(answer):
    return {**answer, "state": [binary(entry) for entry in state_67()[:10]]}


FAULTS = [other_ledger, other_fork, backwards, twice, nothing, no_hex, an_error, no_state, an_earlier_page]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_page_that_cannot_be_is_asked_for_again(tmp_path, fault):
    told = []

    def spoil(request, answer):
        if "marker" in request and len(told) < 3:
            return fault(answer)
        return answer

    snapshot = take(node_67(spoil=spoil), tmp_path, refuse=told.append)
    assert len(told) == 3
    assert snapshot.entries == 300


def test_a_node_that_fails_is_asked_again_and_at_last_given_up(tmp_path):
    calls = []

    async def down(request):
        calls.append(request)
        raise ConnectionError("node1: no answer to ledger within 10 s")

    with pytest.raises(SnapshotError, match="ledger 67: no node gives it: node1: no answer"):
        asyncio.run(take_snapshot(down, 67, tmp_path, attempts=4, pause_s=0))
    assert len(calls) == 4


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("torn", [0, 1, 30])
def test_a_fetch_that_was_killed_goes_on_where_it_was(tmp_path, torn):
    """Also where the last page was written in part: that page is asked for again."""
    count = [0]

    def spoil(request, answer):
        count[0] += request["command"] == "ledger_data"
        if count[0] == 5:
            raise Killed
        return answer

    with pytest.raises(Killed):
        take(node_67(spoil=spoil), tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[: path.stat().st_size - torn])
    node = node_67()
    snapshot = take(node, tmp_path)
    assert len(node.requests) == 1 + 4 + (torn > 0)
    assert pages(snapshot) == pages(take(node_67(), tmp_path / "other"))


def test_pages_of_another_header_are_not_taken_up(tmp_path):
    spool = Spool(tmp_path / "state-67.spool", {"ledger_hash": "of a fork"})
    spool.append([RawEntry(b"\x01" * 32, b"x")], last=True)
    spool.close()
    assert take(node_67(), tmp_path).entries == 300


def test_a_proven_spool_is_proven_again_not_fetched_again(tmp_path):
    take(node_67(), tmp_path)
    node = node_67()
    assert take(node, tmp_path).entries == 300
    assert [r["command"] for r in node.requests] == ["ledger"]


def test_a_spool_keeps_what_is_whole(tmp_path):
    path, header = tmp_path / "one", {"a": 1}
    spool = Spool(path, header)
    first = [RawEntry(b"\x01" * 32, b"one"), RawEntry(b"\x02" * 32, b"")]
    spool.append(first, last=False)
    good = spool.size()
    spool.append([RawEntry(b"\x03" * 32, bytes(1000))], last=True)
    spool.close()
    whole = path.read_bytes()
    for end in (good, good + 3, len(whole) - 1):
        path.write_bytes(whole[:end])
        again = Spool(path, header)
        assert (again.entries, again.last, again.complete) == (2, b"\x02" * 32, False)
        assert list(again.pages()) == [first]
        again.close()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert Spool(path, header).entries == 2


def test_a_state_without_entries(tmp_path):
    """No ledger has one; it must still end."""
    node = StateNode(headers()[67], [])
    with pytest.raises(SnapshotError, match="has the root 0000"):
        take(node, tmp_path)


def test_the_state_of_a_mainnet_ledger(tmp_path):
    """Ledger 38129: its header lacks close_flags and parent_close_time, which its hash proves."""
    ledger = ledger_38129()
    header = {k: v for k, v in ledger.items() if k not in ("accountState", "transactions")}
    snapshot = take(StateNode(header, ledger["accountState"]), tmp_path)
    assert (snapshot.entries, snapshot.unseen, snapshot.run) == (261, 0, 38130)
    _, (record,) = pages(snapshot)
    assert sum(int(r["balance"]) for r in record["balances"] if r["asset"] == "XRP") == 99_999_999_999_996_310


def test_progress_is_told(tmp_path):
    told = []
    take(node_67(page=100), tmp_path, tell=told.append)
    fetched = [p for p in told if p.phase == "fetch"]
    assert [p.entries for p in fetched] == [100, 200, 300]
    assert 0.2 < fetched[0].part < 0.5 < fetched[1].part < 0.9
    assert told[-1].phase == "verify"
    assert told[-1].entries == 300
