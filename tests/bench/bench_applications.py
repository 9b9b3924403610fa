"""The fold of applications' events against a plain loop over the same messages, in one run, without a broker.

Baseline: fastavro decode, one dict of states, the changed ones as JSON into one SQLite transaction per batch: no rule
is asked, no money judged, nothing said. Measured: `Applications` as the books role runs it (decode, rules, embedded
books on disk, states, outcomes and messages made, one fsynced commit per batch), in batches of the role's size and in
large ones.

The events: assets that are registered, minted, listed and sold, every tenth of them fractioned (a book of its own);
users who open accounts, deposit and pay each other. Half are of each topic.
"""

from __future__ import annotations

import io
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson
from fastavro import schemaless_reader

from pipeline.agents.applications import Applications
from pipeline.agents.books import BooksRole
from pipeline.agents.role import Message
from pipeline.catalog import APPLICATIONS
from pipeline.domain.applications.event import AppTopic
from schemas.codec import Codec, local_codec
from schemas.loader import by_topic
from sinks.embedded_books import connect
from sinks.offchain import OffchainBooks
from tests.support.applications import event, record_of

ROWS: Final = {row.domain: row for row in APPLICATIONS}
LARGE: Final = 1000
ROUNDS: Final = 3
BEGIN_MS: Final = 1_767_600_000_000

Said = tuple[str, str, dict[str, Any], dict[str, str]]  # type, key, data, more of the envelope


def assets(chance: random.Random) -> Iterator[Said]:
    """The life of assets, one after the other."""
    users = [f"user-{n}" for n in range(200)]
    for name in users:
        yield "USER_REGISTERED", name, {"addresses": []}, {}
    yield "APP_REGISTERED", "app", {"title": "App", "issuers": [], "treasuries": ["xrpl:0/rTreasury"]}, {}
    number = 0
    while True:
        number += 1
        name, (owner, buyer) = f"asset-{number}", chance.sample(users, 2)
        yield "ASSET_REGISTERED", name, {
            "asset_type": "card", "title": "Card", "issuer_user_id": None, "owner_user_id": owner,
        }, {"app_id": "app"}  # fmt: skip
        yield "MINTED", name, {"to_user_id": None}, {}
        if number % 10 == 0:
            yield "FRACTIONED", name, {"fraction_count": 100}, {"user_id": owner}
            continue
        yield "LISTED", name, {"price": "10", "currency": "USD"}, {"user_id": owner}
        yield "SOLD", name, {"to_user_id": buyer, "price": "10", "currency": "USD"}, {"user_id": owner}


def anchors(chance: random.Random) -> Iterator[Said]:
    """Users who pay each other."""
    users = [f"user-{n}" for n in range(200)]
    accounts = [{"owner": name, "account_type": "USER", "asset": "USD"} for name in users]
    for account in accounts:
        yield "ACCOUNT_OPENED", account["owner"], account, {}
    for account in accounts:
        yield "DEPOSITED", account["owner"], {**account, "amount": "100000"}, {}
    while True:
        payer, payee = chance.sample(users, 2)
        paid = {"payer": payer, "payee": payee, "payee_type": "USER", "asset": "USD", "amount": "0.01"}
        yield "PAID", payer, paid, {"user_id": payer}


def messages(row: AppTopic, said: Iterator[Said], count: int, codec: Codec) -> list[Message]:
    """`count` messages of a topic."""
    found = []
    for offset in range(count):
        kind, key, data, more = next(said)
        told = event(row, kind, key, BEGIN_MS + 1000 * offset, data, id=f"{offset:032x}", **more)
        value = codec.encode(row.topic, record_of(row, told))
        found.append(Message(row.topic, 0, offset, told.at_ms, key.encode(), value, ()))
    return found


def plain(topic: str, told: list[Message], size: int, path: Path) -> float:
    """Seconds of the baseline."""
    schema, states = by_topic()[topic].parsed, dict[str, dict[str, Any]]()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE states (id TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
    started = time.perf_counter()
    for at in range(0, len(told), size):
        changed = {}
        for message in told[at : at + size]:
            stream = io.BytesIO(message.value)
            stream.seek(5)
            record = schemaless_reader(stream, schema)
            name = message.key.decode() if message.key else ""
            said = {field: value for field, value in record.items() if value is not None}
            states[name] = changed[name] = {**states.get(name, {}), **said}
        db.execute("BEGIN IMMEDIATE")
        values = [(name, orjson.dumps(value)) for name, value in changed.items()]
        db.executemany("INSERT OR REPLACE INTO states VALUES (?, ?)", values)
        db.execute("COMMIT")
    seconds = time.perf_counter() - started
    db.close()
    return seconds


def fold(parts: list[list[Message]], size: int, folder: Path, codec: Codec) -> list[float]:
    """Seconds of the fold, per topic. Raises RuntimeError where an event is not applied."""
    found = []
    with connect(folder / "books") as engine:
        made = Applications(APPLICATIONS, folder, codec, lambda: OffchainBooks(engine, again=True))
        made.epochs = dict.fromkeys(made.topics, "bench")
        made.assigned(made.topics)
        for told in parts:
            started = time.perf_counter()
            for at in range(0, len(told), size):
                done = made.process(told[0].topic, told[at : at + size])
                if done.commit is None or done.counts["refused"] or done.counts["events"] == 0:
                    raise RuntimeError(f"{told[0].topic}: {done.stops or done.counts}")
                done.commit()
            found.append(time.perf_counter() - started)
        made.close()
    return found


def run(transactions: int = 200_000, seed: int = 7) -> dict[str, Any]:
    """Figures; a tenth as many events of each topic as `transactions` says, 6,000 at most."""
    codec, chance = local_codec(), random.Random(seed)
    count = max(1000, min(transactions // 10, 6_000))
    parts = [
        messages(ROWS["assets"], assets(chance), count, codec),
        messages(ROWS["anchors"], anchors(chance), count, codec),
    ]
    sizes = {"role": BooksRole.batch_max, "large": LARGE}
    figures: dict[str, Any] = {"events": 2 * count}
    with tempfile.TemporaryDirectory(prefix="tidebook-bench-") as name:
        for title, size in sizes.items():
            loops, folds = list[float](), list[list[float]]()
            for turn in range(ROUNDS):
                folder = Path(name) / f"{title}-{turn}"
                folder.mkdir()
                loops.append(
                    sum(plain(told[0].topic, told, size, folder / f"{n}.db") for n, told in enumerate(parts))
                )
                folds.append(fold(parts, size, folder, codec))
            loop, spent = sorted(loops)[ROUNDS // 2], sorted(folds, key=sum)[ROUNDS // 2]
            figures |= {
                f"{title}_batch": size,
                f"{title}_plain_events_per_s": 2 * count / loop,
                f"{title}_fold_events_per_s": 2 * count / sum(spent),
                f"{title}_assets_events_per_s": count / spent[0],
                f"{title}_money_events_per_s": count / spent[1],
                f"{title}_ratio": loop / sum(spent),
            }
    return figures | {"aim": "≥ 3,000 events/s"}


if __name__ == "__main__":
    print(run())
