"""`tidebook books …`: what the operators' commands do.

A command goes: its intent into the journal, its effect into the books, its outcome into the journal, the
outcome's messages to the topics (or, without a broker, to the history). Cut off anywhere, the next command
goes on where it stopped; every step done twice is done once. docs/decisions/0005-offchain-books.md.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from tigerbeetle import TooMuchDataError

from pipeline.app import make_codec, open_books, open_history
from pipeline.domain.account import AccountCode, AccountRef, account_id
from pipeline.domain.flows.accounts import (
    CUSTOMERS,
    account,
    is_offchain,
)
from pipeline.domain.flows.events import EventName, FlowEvent, Refusal, check, from_dict, to_dict
from pipeline.domain.flows.outcome import (
    Opening,
    Outcome,
    account_record,
    account_records,
    answer,
    refusal_alert,
    transfer_records,
)
from pipeline.ingest.chains import ChainError, ChainRegister
from pipeline.settings import Settings
from sinks.books import BooksError
from sinks.clickhouse_client import DirectoryInUse, QueryError
from sinks.offchain import OffchainBooks
from sinks.offchain_journal import Journal, JournalError, JournalMessage
from sinks.offchain_store import OffchainDefect
from sinks.sink import HistoryMessage
from topics.broker import BrokerError
from topics.envelope import outgoing
from topics.producer import Producer

Answer = dict[str, Any]
TOPICS = ("books.accounts.v1", "books.transfers.v1", "control.alerts.v1")
FAULTS = (
    BooksError,
    JournalError,
    DirectoryInUse,
    QueryError,
    BrokerError,
    ChainError,
    TooMuchDataError,
    OSError,
)


class Desk:
    """One operator's place: the books, the journal, and the way to topics or history."""

    def __init__(self, settings: Settings) -> None:
        """Open all and finish what was cut off. Raises one of FAULTS in one line."""
        self._settings, self._codec = settings, make_codec(settings)
        with ExitStack() as opened:
            self._engine = open_books(settings)
            opened.callback(self._engine.close)
            self._journal = Journal(settings.data_dir / "offchain" / "journal.jsonl")
            opened.callback(self._journal.close)
            self._books = OffchainBooks(self._engine)
            self._resume()
            self._opened = opened.pop_all()

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def known_time(self, name: EventName) -> int | None:
        """Event time of an event that was asked for before: a repeated command is the same event."""
        intent = self._journal.intent(str(name))
        return None if intent is None else int(intent["time_ms"])

    def apply(self, event: FlowEvent) -> Answer:
        """Decide one event. Raises Refusal where it can't even be one."""
        check(event)
        ident = str(event.name)
        before = self._journal.intent(ident)
        if before is not None and before != to_dict(event):
            ident = f"{ident}/{event.digest():08x}"  # another event under the same name: it will be refused
        self._journal.begin(ident, to_dict(event))
        return self._decide(ident, event, self._books)

    def open_account(self, opening: Opening) -> Answer:
        """Open an account; once more is the same answer."""
        self._begin(opening.name, _opening_dict(opening))
        return self._open(str(opening.name), opening, self._books)

    def note(self, name: EventName, record: Mapping[str, Any]) -> Answer:
        """A change of the directory alone: the status of an on-chain account."""
        self._begin(name, {"time_ms": record["time"], "record": _texts(record)})
        told = {
            "event_id": str(name),
            "status": "accepted",
            "account": record["owner"],
            "is": record["status"],
        }
        if self._journal.answer(str(name)) is None:
            self._journal.end(str(name), told, [self._message("books.accounts.v1", record)])
        return told

    def deliver(self) -> None:
        """Take what the journal holds further: to the broker if there is one, else to the history."""
        if self._settings.kafka_url:
            asyncio.run(self._publish())
        else:
            self._write_history()

    def _begin(self, name: EventName, intent: Answer) -> None:
        before = self._journal.intent(str(name))
        if before not in (None, intent):
            raise Refusal("event_reused", "event-id", f"{name} was another command")
        self._journal.begin(str(name), intent)

    def _resume(self) -> None:
        again = OffchainBooks(self._engine, again=True)
        for ident, intent in self._journal.unanswered().items():
            if "record" in intent:
                record = {**intent["record"], "account_id": bytes.fromhex(intent["record"]["account_id"])}
                told = {"event_id": ident, "status": "accepted"}
                self._journal.end(ident, told, [self._message("books.accounts.v1", record)])
            elif "account" in intent:
                self._open(ident, _opening(intent), again)
            else:
                self._decide(ident, from_dict(intent), again)

    def _decide(self, ident: str, event: FlowEvent, books: OffchainBooks) -> Answer:
        outcome = books.apply([event])[0]
        told, earlier = answer(outcome), self._journal.answer(ident)
        if earlier is not None and (outcome.repeated or outcome.reused):
            return {**earlier, "repeated": True}
        self._journal.end(ident, told, self._messages(outcome))
        return told

    def _open(self, ident: str, opening: Opening, books: OffchainBooks) -> Answer:
        ref = opening.account
        made = books.open_accounts([opening])[0]
        told: Answer = {
            "event_id": str(opening.name),
            "status": "opened" if made else "exists",
            "account_id": f"{int.from_bytes(account_id(ref), 'little'):032X}",
            "owner": ref.owner,
            "asset": ref.asset,
            "type": AccountCode(ref.code).name,
        }
        if self._journal.answer(ident) is None:
            record = account_record(ref, "active", opening.name, opening.time_ms, label=opening.label)
            messages = [self._message("books.accounts.v1", record)] if made else []
            self._journal.end(ident, told, messages)
        return told

    def _messages(self, outcome: Outcome) -> list[JournalMessage]:
        found = [self._message("books.accounts.v1", record) for record in account_records(outcome)]
        found += [self._message("books.transfers.v1", record) for record in transfer_records(outcome)]
        if not outcome.accepted:
            found.append(self._message("control.alerts.v1", refusal_alert(outcome)))
        return found

    def _message(self, topic: str, record: Mapping[str, Any]) -> JournalMessage:
        key = record[self._codec.schema(topic).topic["key"]]
        text = key.hex() if isinstance(key, bytes) else str(key)
        return JournalMessage(topic, text, self._codec.encode(topic, record), record["time"])

    async def _publish(self) -> None:
        # a broker that starts anew (its epoch tells) has kept nothing: it gets everything again, same ids
        cursor = self._journal.path.with_name(f"published-{self._settings.epoch or 'broker'}")
        start = int(cursor.read_text()) if cursor.exists() else 0
        waiting = list(self._journal.messages(start))
        if not waiting:
            return
        producer = Producer(self._settings.kafka_url)
        await producer.start()
        try:
            await producer.send_many(
                [
                    outgoing(self._codec, m.topic, m.key, self._codec.decode(m.value)[1], value=m.value)
                    for _, m in waiting
                ]
            )
        finally:
            await producer.stop()
        _write_whole(cursor, str(waiting[-1][0] + 1))

    def _write_history(self) -> None:
        history = open_history(self._settings, "books")
        try:
            for topic in TOPICS:
                start = history.open_partition(self._journal.epoch, topic, 0)
                batch = [
                    HistoryMessage(topic, 0, offset, m.time_ms, m.value)
                    for offset, m in self._journal.messages(start)
                    if m.topic == topic
                ]
                result = history.write(self._journal.epoch, batch)
                for refused in result.refused:
                    raise QueryError(f"history: {topic} offset {refused.message.offset}: {refused.detail}")
            history.flush()
        finally:
            history.close()


def run_event(settings: Settings, build: Callable[[], FlowEvent]) -> tuple[int, Answer | str]:
    """(exit status, answer or one line): 0 accepted, 1 refused or out of reach, 2 a call that can't be."""

    def work(desk: Desk) -> Answer:
        event = build()
        known = desk.known_time(event.name)
        return desk.apply(replace(event, time_ms=known) if event.time_ms == 0 and known else _timed(event))

    return _run(settings, work)


def run_open(
    settings: Settings, name: EventName, time_ms: int, ref: AccountRef, label: str
) -> tuple[int, Any]:
    """Open a customer's account."""

    def work(desk: Desk) -> Answer:
        if ref.code not in CUSTOMERS:
            raise Refusal("wrong_type", "type", "the book's own accounts open by themselves")
        return desk.open_account(Opening(name, time_ms or desk.known_time(name) or now_ms(), ref, label))

    return _run(settings, work)


def run_status(
    settings: Settings, name: EventName, time_ms: int, ref: AccountRef, status: str
) -> tuple[int, Any]:
    """Freeze or thaw an on-chain account in the directory: facts of the chain are booked all the same."""

    def work(desk: Desk) -> Answer:
        if status == "closed":
            raise Refusal("on_chain", "asset", "on-chain accounts are never closed")
        chain = ChainRegister(settings.chains_dir, settings.chains_file).find(ref.asset.partition("/")[0])
        record = account_record(
            ref, status, name, time_ms or desk.known_time(name) or now_ms(),
            chain=chain.name, chain_number=chain.number, account=account_id(ref), book=0,
        )  # fmt: skip
        return desk.note(name, record)

    return _run(settings, work)


def _run(settings: Settings, work: Callable[[Desk], Answer]) -> tuple[int, Answer | str]:
    try:
        with Desk(settings) as desk:
            told = work(desk)
            try:
                desk.deliver()
            except FAULTS as error:
                sys.stderr.write(
                    f"tidebook: done and journalled; its audit records wait for the next command: {error}\n"
                )
    except Refusal as refusal:
        return 2, str(refusal)
    except FAULTS as error:
        return 1, str(error)
    except OffchainDefect as error:
        return 70, f"defect: {error}"
    return int(told["status"] == "refused"), told


def onchain(asset: str) -> bool:
    """Whether an asset, as operators write it, belongs to a chain."""
    return "/" in asset and not is_offchain(asset)


def customer(asset: str, code: AccountCode, owner: str) -> AccountRef:
    """Name of a customer's account; of an on-chain asset, its key stands for itself."""
    return AccountRef(asset, int(code), owner) if onchain(asset) else account(asset, code, owner)


def _timed(event: FlowEvent) -> FlowEvent:
    return event if event.time_ms else replace(event, time_ms=now_ms())


def now_ms() -> int:
    """Event time of a command that names none."""
    return time.time_ns() // 1_000_000


def _opening_dict(opening: Opening) -> dict[str, Any]:
    return {
        "name": list(opening.name),
        "time_ms": opening.time_ms,
        "account": list(opening.account),
        "label": opening.label,
    }


def _opening(data: Mapping[str, Any]) -> Opening:
    return Opening(EventName(*data["name"]), data["time_ms"], AccountRef(*data["account"]), data["label"])


def _texts(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in record.items()}


def _write_whole(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)
