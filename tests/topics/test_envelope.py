"""What goes around a record: headers, id, key and partition."""

import re
from typing import Any

import pytest

from schemas.codec import local_codec
from topics.envelope import Outgoing, event_time_ms, headers, message_id, outgoing, rfc3339

ALERT: dict[str, Any] = {
    "id": "1",
    "rule": "capped",
    "severity": "info",
    "chain": "xrpl:0",
    "block": 7,
    "transaction_index": -1,
    "subject": "s",
    "time": 1_420_070_400_123,
    "evidence": "{}",
}
LEDGER: dict[str, Any] = {"chain": "xrpl:0", "close_time": 1_420_070_400_000}


def alert(**changes: Any) -> Outgoing:
    return outgoing(local_codec(), "control.alerts.v1", "capped", {**ALERT, **changes})


def test_headers_are_cloud_events_in_binary_mode() -> None:
    made = headers(
        ce_id="1", source="s", type_name="t.R", time_ms=0, more=[("trace", b"x"), ("ce_id", b"other")]
    )
    assert made == [
        ("ce_id", b"1"),
        ("ce_source", b"s"),
        ("ce_type", b"t.R"),
        ("ce_time", b"1970-01-01T00:00:00.000Z"),
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/avro"),
        ("trace", b"x"),
    ]


def test_a_record_becomes_a_whole_message() -> None:
    message = alert()
    found = dict(message.headers)
    assert (message.topic, message.key, message.partition) == ("control.alerts.v1", b"capped", None)
    assert local_codec().decode(message.value)[1] == ALERT
    assert found["ce_source"] == b"xrpl:0"
    assert found["ce_type"] == b"tidebook.control.Alert"
    assert found["ce_time"] == b"2015-01-01T00:00:00.123Z"
    assert re.fullmatch(rb"[0-9a-f]{32}", found["ce_id"])


def test_the_same_event_has_the_same_id_and_another_has_another() -> None:
    assert alert() == alert()
    assert dict(alert().headers)["ce_id"] != dict(alert(block=8).headers)["ce_id"]
    assert message_id("a.b.v1", b"x") != message_id("c.d.v1", b"x")


def test_a_record_without_a_chain_comes_from_tidebook() -> None:
    assert dict(alert(chain="").headers)["ce_source"] == b"tidebook"


def test_a_chains_topic_needs_its_partition_and_takes_a_value_that_is_there() -> None:
    codec = local_codec()
    with pytest.raises(ValueError, match=r"xrpl\.ledgers\.v1: a message needs the partition of its chain"):
        outgoing(codec, "xrpl.ledgers.v1", "xrpl:0", LEDGER, value=b"encoded")
    message = outgoing(
        codec,
        "xrpl.ledgers.v1",
        b"k",
        LEDGER,
        value=b"encoded",
        partition=2,
        headers=[("x", b"1"), ("ce_id", b"2")],
    )
    assert (message.key, message.value, message.partition) == (b"k", b"encoded", 2)
    assert [name for name, _ in message.headers].count("ce_id") == 1
    assert message.headers[-1] == ("x", b"1")


def test_the_time_is_the_first_timestamp_of_the_record() -> None:
    codec = local_codec()
    assert event_time_ms(codec.schema("xrpl.ledgers.v1"), LEDGER) == LEDGER["close_time"]


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (-1, "1969-12-31T23:59:59.999Z"),
        (946_684_800_000, "2000-01-01T00:00:00.000Z"),
        (2**62, "9999-12-31T23:59:59.999Z"),
        (-(2**62), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_times_in_rfc_3339(time_ms: int, text: str) -> None:
    assert rfc3339(time_ms) == text
