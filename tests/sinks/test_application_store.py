"""The fold's memory: all of a batch or nothing, one owner, readable by others."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from sinks.application_store import (
    ApplicationReader,
    ApplicationStore,
    Kept,
    NewlyDecided,
    State,
    StoreInUse,
    StoreUnusable,
)

TOLD = [Kept("a.b.v1", b"k", b"\x00value", (("ce_id", b"1"), ("x", b""))), Kept("a.c.v1", None, b"", ())]


def test_what_is_committed_is_there_after_opening_again(tmp_path: Path) -> None:
    store = ApplicationStore(tmp_path / "s.db")
    assert store.versioned("asset", "a") == (0, None) and store.next_offset("e", 0) is None
    store.commit(
        [State("asset", "a", 1, {"n": "1.5"}, due_ms=7), State("asset", "b", 3, None)],
        [NewlyDecided("1", b"d", True, TOLD), NewlyDecided("2", b"e", False, [])],
        {("e", 0): 12},
    )
    store.close()
    store = ApplicationStore(tmp_path / "s.db")
    assert store.versioned("asset", "a") == (1, {"n": "1.5"})
    assert store.versioned("asset", "b") == (3, None)
    assert (store.next_offset("e", 0), store.next_offset("f", 0)) == (12, None)
    found = store.decided(["1", "2", "3"])
    assert found["1"].told == TOLD and found["1"].applied and not found["2"].applied and "3" not in found


def test_the_first_decision_of_an_event_stands(tmp_path: Path) -> None:
    store = ApplicationStore(tmp_path / "s.db")
    store.commit([], [NewlyDecided("1", b"d", True, TOLD)], {})
    store.commit([], [NewlyDecided("1", b"x", False, [])], {})
    assert store.decided(["1"])["1"] == (b"d", True, TOLD, "")


def test_a_batch_that_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    store = ApplicationStore(tmp_path / "s.db")
    with pytest.raises(TypeError):
        store.commit([State("asset", "a", 1, {}), State("asset", "b", 1, {"x": object()})], [], {("e", 0): 1})
    assert store.get("asset", "a") is None and store.next_offset("e", 0) is None
    store.commit([State("asset", "a", 1, {})], [], {("e", 0): 1})
    assert store.get("asset", "a") == {}


def test_others_read_while_the_owner_writes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ApplicationReader(tmp_path / "s.db")
    store = ApplicationStore(tmp_path / "s.db")
    reader = ApplicationReader(tmp_path / "s.db")
    assert reader.get("asset", "a") is None and reader.decided("1") is None
    store.commit(
        [
            State("asset", "a", 1, {"n": 1}, 50),
            State("asset", "b", 1, {"n": 2}, 40),
            State("user", "u", 1, {}),
            State("asset", "c", 1, None),
        ],
        [NewlyDecided("1", b"", False, [])],
        {},
    )
    assert reader.get("asset", "a") == {"n": 1} and reader.get("asset", "c") is None
    assert reader.decided("1") is False
    assert [id for _, id, _ in reader.due(45)] == ["b"] and [id for _, id, _ in reader.due(60)] == ["b", "a"]
    assert list(reader.all("asset")) == [("a", {"n": 1}), ("b", {"n": 2})]


def test_a_store_has_one_owner_and_is_free_when_it_dies(tmp_path: Path) -> None:
    code = (
        "import sys, os; from pathlib import Path; from sinks.application_store import *\n"
        f"s = ApplicationStore(Path({str(tmp_path / 's.db')!r}))\n"
        "s.commit([State('a', 'b', 1, {})], [], {}); print('owns', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "owns\n"
    with pytest.raises(StoreInUse, match=r"s\.db is in use"):
        ApplicationStore(tmp_path / "s.db")
    child.kill()
    child.wait()
    assert ApplicationStore(tmp_path / "s.db").get("a", "b") == {}


def test_a_full_disk_leaves_the_store_as_it_was_and_usable(tmp_path: Path) -> None:
    store = ApplicationStore(tmp_path / "s.db")
    store.commit([State("asset", "a", 1, {})], [], {("e", 0): 1})
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    many = [State("asset", f"x{n}", 1, {"x": "y" * 500}) for n in range(200)]
    for _ in range(2):
        with pytest.raises(StoreUnusable, match=r"s\.db: database or disk is full; nothing is lost"):
            store.commit(many, [], {("e", 0): 2})
    assert store.next_offset("e", 0) == 1 and store.get("asset", "x0") is None
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.commit(many, [], {("e", 0): 2})
    assert store.next_offset("e", 0) == 2


@pytest.mark.parametrize("kept", [100, 5000], ids=["no database", "cut"])
def test_a_broken_file_is_named_with_what_to_do(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "s.db"
    store = ApplicationStore(path)
    store.commit([State("asset", f"x{n}", 1, {"x": "y" * 500}) for n in range(200)], [], {("e", 0): 1})
    store.close()
    data = path.read_bytes()
    path.write_bytes(data[:kept] if kept > 100 else b"x" * 4096)
    with pytest.raises(StoreUnusable, match=r"s\.db: .*folded anew"):
        opened = ApplicationStore(path)
        for n in range(200):
            opened.get("asset", f"x{n}")
    with pytest.raises((sqlite3.DatabaseError, FileNotFoundError)):
        list(ApplicationReader(path).all("asset"))


def test_a_snapshot_is_of_one_moment(tmp_path: Path) -> None:
    store = ApplicationStore(tmp_path / "s.db")
    store.commit([State("asset", "a", 1, {"n": 1}), State("asset", "b", 1, {"n": 1})], [], {})
    reader = ApplicationReader(tmp_path / "s.db")
    with reader.snapshot():
        assert reader.get("asset", "a") == {"n": 1}
        store.commit([State("asset", "a", 2, {"n": 2}), State("asset", "b", 2, {"n": 2})], [], {})
        assert reader.get("asset", "b") == {"n": 1}
    assert reader.get("asset", "b") == {"n": 2}


def test_it_is_remembered_in_which_life_an_event_was_told(tmp_path: Path) -> None:
    store = ApplicationStore(tmp_path / "s.db")
    store.commit([], [NewlyDecided("1", b"d", True, TOLD), NewlyDecided("2", b"d", True, [])], {("e", 0): 2})
    store.commit([], [], {("f", 0): 1}, again=["1"])
    found = store.decided(["1", "2"])
    assert (found["1"].epoch, found["2"].epoch) == ("f", "e") and found["1"].told == TOLD
