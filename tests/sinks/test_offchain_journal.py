"""The operators' journal: what was kept is there again, whatever a kill left behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinks.offchain_journal import Journal, JournalError, JournalMessage

MESSAGES = [
    JournalMessage("books.transfers.v1", "k", b"\x00\x01\xff", 7),
    JournalMessage("control.alerts.v1", "r", b"", 8),
]


def _filled(path: Path) -> None:
    journal = Journal(path)
    journal.begin("a", {"time_ms": 1})
    journal.end("a", {"status": "accepted"}, MESSAGES)
    journal.begin("b", {"time_ms": 2})
    journal.close()


def test_what_was_kept_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    _filled(path)
    journal = Journal(path)
    assert journal.answer("a") == {"status": "accepted"}
    assert journal.unanswered() == {"b": {"time_ms": 2}}
    assert list(journal.messages()) == list(enumerate(MESSAGES))
    assert list(journal.messages(1)) == [(1, MESSAGES[1])]
    epoch = journal.epoch
    journal.close()
    assert Journal(path).epoch == epoch


def test_a_tail_torn_at_any_byte_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    _filled(path)
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, len(whole) - 1) + 1
    for size in range(last, len(whole)):
        path.write_bytes(whole[:size])
        journal = Journal(path)
        assert journal.unanswered() == {}
        journal.begin("c", {})
        journal.close()
        again = Journal(path)
        assert again.unanswered() == {"c": {}}
        again.close()


def test_damage_before_the_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    _filled(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalError, match=r"journal\.jsonl: line \d is damaged"):
        Journal(path)


def test_one_process_owns_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(JournalError, match="in use"):
        Journal(tmp_path / "journal.jsonl")
    journal.close()


def test_an_intent_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.begin("a", {"n": 1})
    size = path.stat().st_size
    journal.begin("a", {"n": 2})
    assert path.stat().st_size == size
    assert journal.intent("a") == {"n": 1}
