"""The token ledger in ClickHouse: what the books role tells of a short story, and the views' answers about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from pipeline.agents.applications import Applications
from pipeline.agents.role import Message
from pipeline.catalog.tokens import TOKENS
from pipeline.domain.applications.event import AppEvent
from pipeline.domain.tokens.types import BUILT_IN
from schemas.loader import by_topic
from sinks.clickhouse import ClickHouseHistory
from sinks.embedded_books import connect
from sinks.offchain import OffchainBooks
from sinks.sink import HistoryMessage
from sinks.views import views
from tests.support.applications import event, record_of
from tests.support.history import CODEC, history

ANA, BEN = "mem_" + "a1" * 16, "mem_" + "b2" * 16  # members, by references
HISTORY = {name for name, schema in by_topic().items() if schema.clickhouse is not None}


def _open(
    account: str, owner: str, owner_type: str = "member", home: str | None = "flora"
) -> tuple[Any, ...]:
    return ("ACCOUNT_OPENED", account, {"owner_type": owner_type, "owner_id": owner, "association_id": home})


STORY: list[tuple[Any, ...]] = [
    _open("acc-flora", "flora", "association"),
    _open("acc-ana", ANA),
    _open("acc-ben", BEN),
    ("CREDIT_LIMIT_GRANTED", "acc-ana", {"limit": "500"}),
    ("CREDIT_ISSUED", "acc-ana", {"amount": "200.5", "reference_type": "invoice", "reference_id": "inv-1"}),
    ("CREDIT_ISSUED", "acc-ana", {"amount": "300"}),  # refused: over the limit
    ("TOKEN_TRANSFERRED", "acc-ana", {"amount": "20.000001", "to_account_id": "acc-ben"}),
    ("ESCROW_LOCKED", "acc-ana", {
        "escrow_id": "es-1", "amount": "50", "beneficiary_account_id": "acc-ben", "reference_type": "purchase_order",
        "reference_id": "po-1", "expires_at": "2026-02-01T00:00:00Z",
    }),
    ("ESCROW_RELEASED", "acc-ana", {"escrow_id": "es-1", "amount": "30", "to_account_id": "acc-ben"}),
    ("PURCHASE_ORDER_CREATED", "acc-flora", {"purchase_order_id": "po-1", "shares_total": "100"}),
    ("PURCHASE_ORDER_SHARE_ISSUED", "acc-ana", {"purchase_order_id": "po-1", "amount": "40"}),
    ("PURCHASE_ORDER_SHARE_ISSUED", "acc-ben", {"purchase_order_id": "po-1", "amount": "10"}),
    ("PURCHASE_ORDER_SHARE_REDEEMED", "acc-ana", {"purchase_order_id": "po-1", "amount": "15.5"}),
    ("REPUTATION_UPDATED", "acc-ben", {"change": "4", "reason": "delivered"}),
    ("REPUTATION_UPDATED", "acc-ben", {"change": "-1.5", "reason": "delivered_late"}),
    ("GOVERNANCE_RIGHT_GRANTED", "acc-ana", {"right_id": "r-1", "right": "vote", "weight": "3"}),
    ("GOVERNANCE_RIGHT_GRANTED", "acc-ben", {"right_id": "r-2", "right": "vote", "weight": "1.25"}),
    ("VOTE_CAST", "acc-ana", {"proposal_id": "prop-1", "right_id": "r-1", "choice": "for"}),
    ("VOTE_CAST", "acc-ben", {"proposal_id": "prop-1", "right_id": "r-2", "choice": "against"}),
    ("TOKEN_TYPE_REGISTERED", "SEED", {
        "token_type_id": "SEED", "name": "Seedling voucher", "transferability": "internal",
        "visible_label": "Seedlings", "substance": "prepaid",
    }),
    ("CREDIT_ISSUED", "acc-ben", {"token_type": "SEED", "amount": "99999999999999.999999"}),
    ("PAYMENT_SCHEDULE_CREATED", "acc-ana", {
        "schedule_id": "sch-1", "instalments": [{"due_at": "2026-02-01T00:00:00Z", "amount": "100"}],
    }),
]  # fmt: skip
START_MS = 1_767_614_400_000  # 2026-01-05T12:00:00Z


def _events() -> Iterator[AppEvent]:
    for place, (type, account, data) in enumerate(STORY):
        yield event(TOKENS, type, account, START_MS + 1000 * place, data, id=f"{place:032x}")


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseHistory]:
    """The story, as the role tells it, in a history."""
    folder = tmp_path_factory.mktemp("tokens")
    role = Applications(
        [TOKENS], folder / "apps", CODEC, lambda: OffchainBooks(connect(sync=False), again=True)
    )
    role.epochs = {TOKENS.topic: "e"}
    values = [CODEC.encode(TOKENS.topic, record_of(TOKENS, one)) for one in _events()]
    role.assigned([TOKENS.topic])
    batch = [Message(TOKENS.topic, 0, place, START_MS, None, value, ()) for place, value in enumerate(values)]
    done = role.process(TOKENS.topic, batch)
    assert done.counts == {"events": len(STORY), "refused": 1}
    assert done.commit is not None
    done.commit()
    with history(folder / "ch") as opened:
        told = [(TOKENS.topic, value) for value in values] + [(one.topic, one.value) for one in done.outgoing]
        messages = [
            HistoryMessage(topic, 0, place, START_MS, value)
            for place, (topic, value) in enumerate(told) if value is not None and topic in HISTORY
        ]  # fmt: skip
        for topic in dict.fromkeys(message.topic for message in messages):
            written = opened.write("e", [message for message in messages if message.topic == topic])
            assert not written.refused, written.refused[0]
        opened.flush()
        yield opened
    role.close()


def _rows(sink: ClickHouseHistory, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in sink.query(sql)]


def test_events_stand_with_their_common_columns(sink: ClickHouseHistory) -> None:
    columns = "type, token_type_id, amount, toString(amount_number), reference_type, reference_id"
    rows = _rows(sink, f"SELECT {columns} FROM token_events ORDER BY at")
    assert len(rows) == len(STORY)
    assert rows[0] == ("ACCOUNT_OPENED", "", "", None, "", "")
    assert rows[4] == ("CREDIT_ISSUED", "CREDIT", "200.5", "200.5", "invoice", "inv-1")
    assert rows[8] == ("ESCROW_RELEASED", "", "30", "30", "", "")
    assert rows[14] == ("REPUTATION_UPDATED", "REPUTATION", "-1.5", "-1.5", "", "")
    assert rows[15] == ("GOVERNANCE_RIGHT_GRANTED", "GOVERNANCE", "3", "3", "", "")
    assert rows[20] == ("CREDIT_ISSUED", "SEED", "99999999999999.999999", "99999999999999.999999", "", "")


def test_the_payload_is_the_record_of_the_type(sink: ClickHouseHistory) -> None:
    payloads = [orjson.loads(row[0]) for row in _rows(sink, "SELECT payload FROM token_events ORDER BY at")]
    assert payloads[1] == {"owner_type": "member", "owner_id": ANA, "association_id": "flora"}
    assert [set(payload) for payload in payloads] == [set(one.data) for one in _events()]
    assert payloads[7]["expires_at"].startswith("2026-02-01 00:00:00")
    assert [part["amount"] for part in payloads[-1]["instalments"]] == ["100"]


def test_balances(sink: ClickHouseHistory) -> None:
    columns = "account_id, token_type, visible_label, toString(available), toString(locked)"
    assert _rows(sink, f"SELECT {columns} FROM token_balances ORDER BY account_id, token_type") == [
        ("acc-ana", "CREDIT", "Credit", "130.499999", "20"),
        ("acc-ana", "ESCROW", "Guarantee", "20", "0"),
        ("acc-ana", "GOVERNANCE", "Votes", "3", "0"),
        ("acc-ana", "PO_SHARE", "Shares of an order", "24.5", "0"),
        ("acc-ben", "CREDIT", "Credit", "50.000001", "0"),
        ("acc-ben", "GOVERNANCE", "Votes", "1.25", "0"),
        ("acc-ben", "PO_SHARE", "Shares of an order", "10", "0"),
        ("acc-ben", "REPUTATION", "Reputation", "2.5", "0"),
        ("acc-ben", "SEED", "Seedlings", "99999999999999.999999", "0"),
    ]


def test_labels_are_those_of_the_built_in_types() -> None:
    select = next(view.select for view in views() if view.name == "token_balances")
    assert [
        f"'{kind}'" in select and f"'{row['visible_label']}'" in select for kind, row in BUILT_IN.items()
    ] == [True] * len(BUILT_IN)


def test_statement(sink: ClickHouseHistory) -> None:
    columns = "event_type, side, toString(change), toString(available), toString(locked)"
    sql = f"SELECT {columns} FROM token_statement WHERE account_id = 'acc-ana' AND token_type = 'CREDIT'"
    assert _rows(sink, f"{sql} ORDER BY position, side DESC") == [
        ("CREDIT_ISSUED", "available", "200.5", "200.5", "0"),
        ("TOKEN_TRANSFERRED", "available", "-20.000001", "180.499999", "0"),
        ("ESCROW_LOCKED", "locked", "50", "180.499999", "50"),
        ("ESCROW_LOCKED", "available", "-50", "130.499999", "50"),
        ("ESCROW_RELEASED", "locked", "-30", "130.499999", "20"),
    ]


def test_statement_ends_at_the_balances(sink: ClickHouseHistory) -> None:
    """The last row of each account and token has what token_balances has: books and states say the same."""
    last = "argMax((available, locked), (position, side = 'available'))"
    sql = f"SELECT account_id, token_type, toString({last}) AS has FROM token_statement GROUP BY account_id, token_type"
    held = "SELECT account_id, token_type, toString((available, locked)) AS has FROM token_balances"
    assert _rows(sink, f"SELECT * FROM ({sql}) ORDER BY ALL") == _rows(
        sink, f"SELECT * FROM ({held}) ORDER BY ALL"
    )


def test_shares(sink: ClickHouseHistory) -> None:
    columns = (
        "purchase_order_id, account_id, toString(shares), toString(shares_issued), toString(shares_redeemed), "
        "toString(shares_total)"
    )
    assert _rows(sink, f"SELECT {columns} FROM token_shares ORDER BY account_id") == [
        ("po-1", "acc-ana", "24.5", "50", "15.5", "100"),
        ("po-1", "acc-ben", "10", "50", "15.5", "100"),
    ]


def test_guarantees(sink: ClickHouseHistory) -> None:
    who, what = "escrow_id, account_id, beneficiary", "token_type, toString(amount), status, reference_id"
    assert _rows(sink, f"SELECT {who}, {what}, toString(expires_at) FROM token_guarantees") == [
        ("es-1", "acc-ana", "acc-ben", "CREDIT", "20", "active", "po-1", "2026-02-01 00:00:00.000")
    ]


def test_reputation(sink: ClickHouseHistory) -> None:
    columns = "account_id, toString(score), reason, changes"
    assert _rows(sink, f"SELECT {columns} FROM token_reputation") == [("acc-ben", "2.5", "delivered_late", 2)]


def test_votes(sink: ClickHouseHistory) -> None:
    columns = "proposal_id, choice, votes, toString(weight), toString(weight_cast)"
    assert _rows(sink, f"SELECT {columns} FROM token_votes ORDER BY weight DESC") == [
        ("prop-1", "for", 1, "3", "4.25"),
        ("prop-1", "against", 1, "1.25", "4.25"),
    ]
