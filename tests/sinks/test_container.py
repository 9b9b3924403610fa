"""Containers: what fastavro reads from one is what was put in, and zig-zag is the specification's."""

from io import BytesIO
from pathlib import Path

import fastavro
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import body
from schemas.loader import by_topic
from schemas.registry import local_registry
from sinks.container import Body, ContainerWriter, wrapper_schema, zigzag
from tests.support.history import CODEC, LEDGERS, chain, message


def _writer() -> ContainerWriter:
    return ContainerWriter(local_registry().by_id(CODEC.schema_id(LEDGERS)))


def test_a_container_holds_the_messages() -> None:
    records = chain(3, 9)
    messages = [message(record, 100 + place, partition=2) for place, record in enumerate(records)]
    bodies = [Body(of.partition, of.offset, of.timestamp_ms, body(of.message)) for of in messages]
    read = list(fastavro.reader(BytesIO(_writer().container("epoch", bodies))))
    assert [(of["_epoch"], of["_partition"], of["_offset"]) for of in read] == [
        ("epoch", 2, 100 + k) for k in range(9)
    ]
    assert [of["_timestamp"] for of in read] == [of.timestamp_ms for of in messages]
    assert [[tx["hash"] for tx in of["value"]["transactions"]] for of in read] == [
        [tx["hash"] for tx in of["transactions"]] for of in records
    ]


def test_an_empty_container_is_valid() -> None:
    assert list(fastavro.reader(BytesIO(_writer().container("e", [])))) == []


def test_a_body_that_is_too_long_does_not_run_into_the_next_message() -> None:
    one, other = (message(record, place) for place, record in enumerate(chain(4, 2)))
    bodies = [Body(0, 0, 0, bytes(body(one.message)) + b"surplus"), Body(0, 1, 0, body(other.message))]
    blocks = list(fastavro.block_reader(BytesIO(_writer().container("e", bodies))))
    assert [block.num_records for block in blocks] == [1, 1]
    assert next(iter(blocks[1]))["_offset"] == 1


@given(st.integers(-(2**63), 2**63 - 1))
def test_zigzag_is_avro_s(number: int) -> None:
    out = BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    assert zigzag(number) == out.getvalue()


def test_the_wrapper_keeps_what_decides_about_bytes() -> None:
    for topic, schema in by_topic().items():
        text = str(wrapper_schema(local_registry().by_id(CODEC.schema_id(topic))))
        assert "'doc'" not in text and "'default'" not in text and "'aliases'" not in text
        assert ("timestamp-millis" in text) == ("timestamp-millis" in str(schema.resolution))


def test_no_body_is_copied_before_the_join(tmp_path: Path) -> None:
    """Views of the messages go in as they are: a generator of memoryviews is enough."""
    of = message(chain(5, 1)[0], 0)
    made = _writer().container("e", (Body(0, 0, 0, view) for view in [memoryview(of.message)[5:]]))
    assert of.message[5:] in made
