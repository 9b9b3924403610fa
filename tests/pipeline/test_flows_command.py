"""`tidebook books …`: answers, exit statuses, and nothing lost between effect, journal and history."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline import books_command
from pipeline.books_cli import _rows, books_app
from pipeline.books_command import Desk
from pipeline.domain.flows.events import EventName, FlowEvent, Kind, Party
from pipeline.settings import Settings
from schemas.codec import local_codec
from sinks.books_reading import SOCKET, AnsweringBooks
from sinks.embedded_books import connect
from sinks.offchain_journal import Journal
from sinks.sink import HistoryMessage, WriteResult

T0 = 1_800_000_000_000


class Kept:
    """A history that keeps its messages, by topic and offset."""

    def __init__(self) -> None:
        self.messages: dict[tuple[str, int], dict[str, Any]] = {}

    def open_partition(self, epoch: str, topic: str, partition: int) -> int:
        return max((offset for name, offset in self.messages if name == topic), default=-1) + 1

    def write(self, epoch: str, batch: Sequence[HistoryMessage]) -> WriteResult:
        for one in batch:
            assert (one.topic, one.offset) not in self.messages
            self.messages[one.topic, one.offset] = local_codec().decode(one.message, one.topic)[1]
        return WriteResult(len(batch))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def of(self, topic: str) -> list[dict[str, Any]]:
        return [record for (name, _), record in sorted(self.messages.items()) if name == topic]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    history = Kept()
    monkeypatch.setattr(books_command, "open_history", lambda *_: history)
    for name in ("TIGERBEETLE_ADDRESSES", "TIDEBOOK_KAFKA_URL", "TIDEBOOK_CLICKHOUSE_URL"):
        monkeypatch.delenv(name, raising=False)
    return history


class Operator:
    """Types commands; the answer is JSON, or the line of the error."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *words: str) -> tuple[int, Any]:
        done = CliRunner().invoke(books_app, [*words, "--data-dir", str(self.directory), "--json"])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return done.exit_code, lines[0] if len(lines) == 1 else lines or done.stderr


@pytest.fixture
def operator(tmp_path: Path, kept: Kept) -> Operator:
    made = Operator(tmp_path)
    assert made("open", "alice", "--asset", "SOVR", "--name", "A")[0] == 0
    assert made("open", "shop", "--type", "merchant", "--asset", "SOVR")[0] == 0
    assert made("deposit", "100", "--asset", "SOVR", "--to", "alice", "--event-id", "d1")[0] == 0
    return made


def test_the_whole_round(operator: Operator, kept: Kept) -> None:
    of = ("--asset", "SOVR", "--from", "alice")
    to = ("--to", "merchant:shop")
    for words in (
        ("pay", "20", *of, *to, "--event-id", "p1"), ("fee", "1", *of), ("withdraw", "2", *of),
        ("refund", "5", "p1", "--asset", "SOVR", "--from", "merchant:shop", "--to", "alice"),
        ("authorize", "10", "a1", "--from", "alice", "--anchor", "FUEL", "--expires", "2100-01-01"),
        ("claim", "a1"), ("fulfil", "a1", "--proof", "9f", "--attested"),
        ("authorize", "10", "a2", "--from", "alice", "--anchor", "FUEL"), ("expire", "a2", "--to", "alice"),
        ("lock", "30", "x1", *of), ("release", "x1", *of, *to, "--amount", "10"),
        ("lock", "30", "x2", *of), ("void", "x2", *of),
        ("settle", "3", "--asset", "SOVR", "--from", "shop", "--event-id", "s1"),
        ("reverse", "s1", "--asset", "SOVR", "--to", "shop"),
        ("freeze", "alice", "--asset", "SOVR"), ("thaw", "alice", "--asset", "SOVR"),
    ):  # fmt: skip
        status, told = operator(*words)
        assert (status, told["status"]) == (0, "accepted"), (words, told)
    balance = operator("balance", "alice")[1]
    assert balance == {"owner": "alice", "asset": "SOVR", "available": "62", "locked": "0", "pending": "0",
                       "status": "active"}  # fmt: skip
    statuses = [row["status"] for record in kept.of("books.transfers.v1") for row in record["transfers"]]
    assert {"posted", "pending", "voided"} == set(statuses)
    assert [r["status"] for r in kept.of("books.accounts.v1") if r["owner"] == "alice" and r["type"] == "USER"] == [
        "active", "frozen", "active",
    ]  # fmt: skip


def test_a_command_again_is_the_same_answer(operator: Operator, kept: Kept) -> None:
    words = ("withdraw", "5", "--asset", "SOVR", "--from", "alice", "--event-id", "w")
    first, count = operator(*words), len(kept.messages)
    again = operator(*words)
    assert again == (0, {**first[1], "repeated": True})
    assert len(kept.messages) == count
    status, other = operator("withdraw", "6", "--asset", "SOVR", "--from", "alice", "--event-id", "w")
    assert (status, other["reason"], other["field"]) == (1, "event_reused", "amount")


def test_a_refusal_is_an_answer_a_record_and_an_alert(operator: Operator, kept: Kept) -> None:
    words = ("withdraw", "500", "--asset", "SOVR", "--from", "alice", "--event-id", "w")
    status, told = operator(*words)
    assert (status, told["status"], told["field"]) == (1, "refused", "debtor")
    assert operator(*words) == (1, {**told, "repeated": True})
    assert [alert["subject"] for alert in kept.of("control.alerts.v1")] == ["operator:cli:w"]
    assert kept.of("books.transfers.v1")[-1]["transfers"][0]["status"] == "refused"
    operator("deposit", "500", "--asset", "SOVR", "--to", "alice")
    assert operator(*words)[1]["reason"] == "insufficient_balance"
    assert operator(*words, "--attempt", "1")[0] == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("withdraw", "0", "--asset", "SOVR", "--from", "alice"), "tidebook: amount: 0 is not above 0"),
        (("withdraw", "1.5", "--asset", "SOVR", "--from", "alice"), "amount: '1.5' is no whole number"),
        (("withdraw", str(1 << 128), "--asset", "SOVR", "--from", "alice"), "amount: 3402823669"),
        (("withdraw", "1", "--asset", "EURO", "--from", "alice"), "asset: 'EURO' is none of USD,"),
        (("open", "x", "--asset", "EURO"), "asset: 'EURO' is none of USD,"),
        (("open", "x", "--asset", "USD", "--type", "boss"), "type: 'boss' is no type of account"),
        (
            ("open", "x", "--asset", "USD", "--type", "treasury"),
            "type: the book's own accounts open by themselves",
        ),
        (
            ("pay", "1", "--asset", "SOVR", "--from", "alice", "--to", "alice"),
            "creditor: alice (USER) is on both",
        ),
        (("deposit", "1", "--asset", "SOVR", "--to", "alice", "--time", "noon"), "time: 'noon' is neither"),
    ],
)
def test_bad_input_is_one_line_that_names_the_field(
    operator: Operator, words: tuple[str, ...], line: str
) -> None:
    status, told = operator(*words)
    assert status == 2
    assert line in told and told.count("\n") == 1


def test_an_unreachable_cluster_is_one_line_that_names_the_address(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(settings: Settings) -> Any:
        from sinks.tigerbeetle import connect as to_cluster

        return to_cluster(settings.tigerbeetle_addresses, timeout_s=0.5)

    monkeypatch.setenv("TIGERBEETLE_ADDRESSES", "127.0.0.1:1")
    monkeypatch.setattr(books_command, "open_books", connect)
    status, told = operator("deposit", "1", "--asset", "SOVR", "--to", "alice")
    assert status == 1
    assert "TIGERBEETLE_ADDRESSES='127.0.0.1:1'" in told and told.count("\n") == 1


EVENTS = [
    FlowEvent(kind=Kind.DEPOSIT, name=EventName("operator", "cli", "e1"), time_ms=T0, asset="SOVR", amount=5,
              creditor=Party("alice")),
    FlowEvent(kind=Kind.WITHDRAWAL, name=EventName("operator", "cli", "e2"), time_ms=T0 + 1, asset="SOVR",
              amount=500, debtor=Party("alice")),
]  # fmt: skip


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", ["begin", "effect", "end", "write", "flush"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_between_any_two_steps_nothing_is_lost_or_doubled(
    operator: Operator, kept: Kept, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    place: Any = {"begin": Journal, "end": Journal, "write": kept, "flush": kept}.get(
        step, books_command.OffchainBooks
    )
    name = {"effect": "apply"}.get(step, step)
    real = getattr(place, name)

    def dies(*args: Any, **more: Any) -> Any:
        if after:
            real(*args, **more)
        raise Killed

    settings = Settings(data_dir=operator.directory)
    for event in EVENTS:
        with monkeypatch.context() as patch:
            patch.setattr(place, name, dies)
            with pytest.raises(Killed), Desk(settings) as desk:
                desk.apply(event)
                desk.deliver()
    for _ in range(2):  # the caller asks again, twice
        for event in EVENTS:
            with Desk(settings) as desk:
                told = desk.apply(event)
                desk.deliver()
                assert told["status"] == ("accepted" if event is EVENTS[0] else "refused")
    rows = [row for r in kept.of("books.transfers.v1") for row in r["transfers"] if ":e" in row["event_id"]]
    assert [(row["event_id"], row["status"]) for row in rows] == [
        ("operator:cli:e1", "posted"), ("operator:cli:e2", "refused"),
    ]  # fmt: skip
    assert [alert["subject"] for alert in kept.of("control.alerts.v1")] == ["operator:cli:e2"]
    assert operator("balance", "alice")[1]["available"] == "105"


def owned(directory: Path) -> closing[AnsweringBooks]:
    """The books in the hands of a role that runs."""
    return closing(AnsweringBooks(connect(directory / "books", sync=False), directory / SOCKET))


def test_balances_at_a_time_and_at_a_position(operator: Operator) -> None:
    told = operator("withdraw", "40", "--asset", "SOVR", "--from", "alice", "--time", "2100-01-01T00:00:00")[
        1
    ]
    position = int(told["transfers"][0]["timestamp"])
    asked = {
        (): "60",
        ("--at", "2099-12-31"): "100",
        ("--at", "2100-01-01"): "60",
        ("--position", str(position - 1)): "100",
        ("--position", str(position)): "60",
    }
    for words, available in asked.items():
        assert operator("balance", "alice", *words)[1]["available"] == available
    with owned(operator.directory):
        for words, available in asked.items():
            assert operator("balance", "alice", *words)[1]["available"] == available


def test_on_chain_accounts_are_only_marked(
    operator: Operator, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("freeze", "rAddress", "--asset", "xrpl:0/XRP", "--event-id", "f")
    status, told = operator(*words)
    assert status == 1 and "no chain 'xrpl:0'" in told
    found = SimpleNamespace(find=lambda name: SimpleNamespace(name=name, number=7))
    monkeypatch.setattr(books_command, "ChainRegister", lambda *_: found)
    before = len(kept.of("books.transfers.v1"))
    assert operator(*words) == operator(*words) == (0, {"event_id": "operator:cli:f", "status": "accepted",
                                                        "account": "rAddress", "is": "frozen"})  # fmt: skip
    (record,) = [r for r in kept.of("books.accounts.v1") if r["chain_number"] == 7]
    assert (record["owner"], record["type"], record["status"]) == ("rAddress", "HOLDER", "frozen")
    assert len(kept.of("books.transfers.v1")) == before
    status, told = operator("close", "rAddress", "--asset", "xrpl:0/XRP")
    assert status == 2 and "on-chain accounts are never closed" in told


def test_real_commands_leave_a_history_that_agrees_with_the_books(tmp_path: Path) -> None:
    """As an operator would: processes, embedded books, chDB; the audit while a role has the books."""
    env = {
        **os.environ,
        "TIDEBOOK_DATA_DIR": str(tmp_path),
        "TIGERBEETLE_ADDRESSES": "",
        "TIDEBOOK_KAFKA_URL": "",
    }
    code = "from pipeline.books_cli import books_app; books_app()"

    def run(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", code, *words], env=env, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    assert run("open", "alice", "--asset", "USD")[0] == 0
    assert run("deposit", "100", "--asset", "USD", "--to", "alice")[0] == 0
    assert run("withdraw", "200", "--asset", "USD", "--from", "alice")[0] == 1
    with owned(tmp_path):
        status, text = run("audit", "--json")
    rows = [json.loads(line) for line in text.splitlines()]
    assert status == 0, text
    assert [(row["status"], row["in_books"], row["agrees"]) for row in rows] == [
        ("posted", True, True), ("refused", False, True),
    ]  # fmt: skip
    status, text = run("accounts", "--json")
    assert [json.loads(line)["type"] for line in text.splitlines()] == ["TREASURY", "USER"], text


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    _rows(lambda: [{"owner": "[red]ann[/red]\x1b[2J"}], json=False)
    assert "[red]ann[/red]\N{REPLACEMENT CHARACTER}[2J" in capsys.readouterr().out
    _rows(list, json=False)
    assert capsys.readouterr().out == "no rows\n"
