"""`tidebook books balance|accounts|audit`: what the off-chain books hold, from the books and the history.

Where they run on the data directory, the books role is asked for the books and `tidebook up` for the history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.app import books_to_ask, open_reading
from pipeline.domain.flows.accounts import ASSET_OF_LEDGER, CHAIN, CUSTOMERS, AccountRow
from pipeline.domain.flows.balances import OwnerBalance, Sums, fold, owner_balances, status_of, sums_of
from pipeline.settings import Settings
from sinks.clickhouse_client import QueryError
from sinks.offchain import OffchainBooks


def balances(
    settings: Settings, owner: str, asset: str, at_ms: int | None, position: int | None
) -> Iterator[OwnerBalance]:
    """What an owner has per asset: now, after the events up to a time, or at a position of the books."""
    books = OffchainBooks(books_to_ask(settings))
    try:
        rows: list[tuple[AccountRow, Sums]] = []
        states: dict[str, set[str]] = {}
        for row in books.store.accounts_of(owner):
            sums = sums_of(row)
            if at_ms is not None:
                sums = fold(row.id, books.store.transfers_of(row.id), at_ms)
            elif position is not None:
                sums = Sums(*books.store.balance_at(row.id, position))
            rows.append((row, sums))
            if row.code in CUSTOMERS and row.ledger in ASSET_OF_LEDGER:
                closing = books.store.closing(row.id)
                status = status_of(row, closing.flags if closing else 0)
                states.setdefault(ASSET_OF_LEDGER[row.ledger], set()).add(status)
        for total in owner_balances(owner, rows):
            if asset in ("", total.asset):
                yield total._replace(status=", ".join(sorted(states.get(total.asset, {"active"}))))
    finally:
        books.store.close()


def directory(settings: Settings, owner: str, asset: str, status: str) -> Iterator[Mapping[str, Any]]:
    """The account directory, as the history has it."""
    sql = (
        "SELECT account_id, asset, type, owner, argMaxIf(name, place, name != '') AS name,"
        " argMax(status, place) AS status, argMax(event_id, place) AS event_id, max(time) AS changed"
        " FROM (SELECT *, (position, _offset) AS place FROM accounts)"
        " GROUP BY account_id, asset, type, owner"
        " HAVING ({owner:String} = '' OR owner = {owner:String}) AND ({asset:String} = '' OR asset = {asset:String})"
        " AND ({status:String} = '' OR status = {status:String}) ORDER BY asset, type, owner"
    )
    yield from _asked(settings, sql, {"owner": owner, "asset": asset, "status": status})


def audit(settings: Settings, owner: str, event: str) -> Iterator[dict[str, Any]]:
    """The transfer audit log of the off-chain books, each row held against the books: `in_books`."""
    sql = (
        "SELECT time, event_id, flow, status, reason, asset, code, debit_code, debit_owner, credit_code,"
        " credit_owner, toString(amount) AS amount, transfer_id, pending_id, timestamp FROM transfers"
        " WHERE chain = {chain:String} AND ({owner:String} = '' OR debit_owner = {owner:String}"
        " OR credit_owner = {owner:String}) AND ({event:String} = '' OR event_id = {event:String})"
        " ORDER BY time, event_id, timestamp, leg"
    )
    rows = list(_asked(settings, sql, {"chain": CHAIN, "owner": owner, "event": event}))
    store = OffchainBooks(books_to_ask(settings)).store
    try:
        held = store.transfers([int(row["transfer_id"], 16) for row in rows])
    finally:
        store.close()
    for row in rows:
        stands = held[int(row["transfer_id"], 16)]
        row["in_books"] = stands is not None
        row["agrees"] = (
            stands is None
            if row["status"] == "refused"
            else stands is not None and stands.amount == int(row["amount"])
        )
        yield row


def _asked(settings: Settings, sql: str, parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if not settings.clickhouse_url and not settings.clickhouse_dir.exists():
        raise QueryError(f"there is no history in {settings.data_dir}: name the directory with --data-dir")
    history = open_reading(settings)
    try:
        yield from history.query(sql, parameters)
    finally:
        history.close()
