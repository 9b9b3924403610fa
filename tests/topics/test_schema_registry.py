"""The registry's API: one contract on the fake and on a real server, then everything that goes wrong.

A real server is used where TIDEBOOK_TEST_SCHEMA_REGISTRY_URL names one; its subjects there have names of their
own, so that it may be used again and again.
"""

from __future__ import annotations

import copy
import json
import os
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from schemas.codec import Codec, Undecodable, UnknownSchema, id_of
from schemas.forms import resolution_form
from schemas.loader import by_topic, make_schema
from schemas.registry import Entry, LocalRegistry, NotRegistered, local_registry
from tests.support.history import LEDGERS, TRANSFERS, ledger, transaction
from tests.support.schema_registry import FakeRegistry, Fault, printed, serve
from topics.schema_registration import failed, register_all
from topics.schema_registry import Client, HttpRegistry, RegistryError, open_registry, schema_text

LIVE = "TIDEBOOK_TEST_SCHEMA_REGISTRY_URL"
ENTRIES = local_registry().entries
PATIENCE_S = 0.6


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with serve(FakeRegistry(first_id=4711)) as served:
        yield served


@pytest.fixture(params=["fake", "fake below a path, with a user", "real"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "real":
        if not os.environ.get(LIVE):
            pytest.skip(f"{LIVE} names no schema registry")
        yield os.environ[LIVE]
        return
    fakes = {
        "fake": FakeRegistry(first_id=4711),
        "fake below a path, with a user": FakeRegistry(
            path="/apis/ccompat/v7", user="us:er", password="p@ss/w%rd", level_needs_subject=True
        ),
    }
    fake = fakes[request.param]
    with serve(fake) as served:
        user = f"us%3Aer:p%40ss%2Fw%25rd@{served.url.rpartition('@')[2]}" if fake.user else ""
        yield f"http://{user}" if user else served.url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    made = Client(url)
    yield made
    made.close()


def record(name: str, *fields: dict[str, Any]) -> Any:
    """A record's resolution form with an `id` before `fields`."""
    whole = [{"name": "id", "type": "long"}, *fields]
    return resolution_form({"type": "record", "name": name, "namespace": "t.n", "fields": whole})


NOTE = {"name": "note", "type": ["null", "string"], "default": None}


def entries_of(name: str, *schemas: Any) -> list[Entry]:
    return [Entry(n, f"{name}-value", n, schema) for n, schema in enumerate(schemas, 1)]


def new_name() -> str:
    """A name that a real server has not met."""
    return f"t{uuid.uuid4().hex}"


# The contract


def test_registering_is_repeatable_and_a_dry_run_changes_nothing(client: Client) -> None:
    name = new_name()
    versions = entries_of(name, record(name), record(name, NOTE))
    assert [row.state for row in register_all(client, versions, dry_run=True)] == ["missing"] * 2
    with pytest.raises(NotRegistered, match="tidebook schemas register"):
        HttpRegistry(client).id_of(f"{name}-value", versions[0].schema)
    rows = register_all(client, versions)
    assert [(row.state, row.registry_version, row.compatibility) for row in rows] == [
        ("registered", 1, "BACKWARD"), ("registered", 2, "BACKWARD")
    ]  # fmt: skip
    again = register_all(client, versions)
    assert [(row.state, row.id) for row in again] == [("present", row.id) for row in rows]
    assert register_all(client, versions, dry_run=True) == again


def test_ids_and_schemas_go_there_and_back(client: Client) -> None:
    name = new_name()
    versions = entries_of(name, record(name), record(name, NOTE))
    rows = register_all(client, versions)
    registry = HttpRegistry(client)
    for row, entry in zip(rows, versions, strict=True):
        assert registry.id_of(entry.subject, entry.schema) == row.id
        assert row.id is not None and registry.by_id(row.id) == entry.schema


def test_what_is_incompatible_is_refused_and_ends_its_subject_only(client: Client) -> None:
    """A field without a default, in the middle of three versions; the other subject goes on."""
    bad, good = new_name(), new_name()
    required = {"name": "must", "type": "string"}
    versions = [
        *entries_of(bad, record(bad), record(bad, required), record(bad, required, NOTE)),
        *entries_of(good, record(good)),
    ]
    versions = [Entry(n, e.subject, e.version, e.schema) for n, e in enumerate(versions, 1)]
    rows = register_all(client, versions)
    assert [row.state for row in rows] == ["registered", "refused", "refused", "registered"]
    assert rows[1].detail.startswith("409: ")
    assert failed(rows)
    dry = register_all(client, versions, dry_run=True)
    assert [row.state for row in dry] == ["present", "refused", "refused", "present"]


def test_an_unknown_id_is_an_unknown_schema(client: Client) -> None:
    with pytest.raises(UnknownSchema):
        HttpRegistry(client).by_id(2**31 - 2)


def test_an_older_version_is_left_out_where_a_later_one_is(client: Client) -> None:
    name = new_name()
    versions = entries_of(name, record(name), record(name, NOTE))
    register_all(client, versions[1:])
    rows = register_all(client, versions)
    assert [row.state for row in rows] == ["left out", "present"]
    assert not failed(rows)


def test_everything_that_is_frozen_can_be_registered_and_used(client: Client) -> None:
    """The package's own schemas, each encoded id being the registry's own."""
    rows = register_all(client, ENTRIES)
    assert {row.state for row in rows} <= {"registered", "present"}
    registry = HttpRegistry(client)
    assert [registry.by_id(row.id or 0) for row in rows] == [entry.schema for entry in ENTRIES]
    codec = Codec(registry)
    made = ledger(5, [transaction(0)])
    message = codec.encode(LEDGERS, made, strict=True)
    own = next(
        row.id for row, entry in zip(rows, ENTRIES, strict=True) if entry.subject == f"{LEDGERS}-value"
    )
    assert codec.decode(message, LEDGERS) == (
        own,
        Codec(local_registry()).decode(_local(message), LEDGERS)[1],
    )


def _local(message: bytes) -> bytes:
    """`message`, an xrpl.ledgers.v1, under the local registry's id."""
    return b"\0" + Codec(local_registry()).schema_id(LEDGERS).to_bytes(4, "big") + message[5:]


# Versions, ids, caches


def test_messages_of_an_older_version_are_read_by_the_registry_s_id(fake: FakeRegistry) -> None:
    """books.transfers.v1 has several versions: a message of the first gets the second's defaults, and later ones'."""
    old, new, *later = [entry for entry in ENTRIES if entry.subject == f"{TRANSFERS}-value"]
    ids = [row.id for row in register_all(Client(fake.url), [old, new, *later])]
    attribute = {**by_topic()[TRANSFERS].topic}
    codec_then = Codec(HttpRegistry(Client(fake.url)), [make_schema({**old.schema, "topic": attribute})])
    body = _plain(old.schema)
    message = codec_then.encode(TRANSFERS, body)
    assert id_of(message) == ids[0] != old.id
    schema_id, read = Codec(HttpRegistry(Client(fake.url))).decode(message, TRANSFERS)
    new_fields = [field for field in _leg(new.schema)["fields"] if field not in _leg(old.schema)["fields"]]
    defaults = {field["name"]: field["default"] for field in new_fields}
    assert schema_id == ids[0] and defaults
    added = {
        field["name"]: field["default"]
        for entry in later
        for field in entry.schema["fields"]
        if field["name"] not in body
    }
    assert read == {**body, **added, "transfers": [{**body["transfers"][0], **defaults}]}


def _leg(schema: Any) -> Any:
    """The record within books.transfers.v1's field `transfers`."""
    (field,) = (field for field in schema["fields"] if field["name"] == "transfers")
    return field["type"]["items"]


def _plain(kind: Any) -> Any:
    """A value of an Avro type; an array has one item."""
    if isinstance(kind, list):
        return _plain(kind[0])
    name = kind["type"] if isinstance(kind, dict) else kind
    if name == "record":
        return {field["name"]: _plain(field["type"]) for field in kind["fields"]}
    if name == "array":
        return [_plain(kind["items"])]
    if name == "enum":
        return kind["symbols"][0]
    if name == "fixed":
        return bytes(kind["size"])
    return {"null": None, "string": "x", "long": 7, "int": 3, "boolean": True, "bytes": b""}[name]


def test_each_schema_is_asked_for_once(fake: FakeRegistry) -> None:
    register_all(Client(fake.url), ENTRIES)
    fake.requests.clear()
    registry = open_registry(fake.url)
    writer, reader = Codec(registry), Codec(open_registry(fake.url))
    for index in range(50):
        reader.decode(writer.encode(LEDGERS, ledger(index)), LEDGERS)
        reader.decode_prefix(writer.encode(LEDGERS, ledger(index)), ("ledger_index",))
    schema_id = writer.schema_id(LEDGERS)
    assert fake.requests == [f"POST /subjects/{LEDGERS}-value", f"GET /schemas/ids/{schema_id}"]


def test_an_unknown_id_is_not_asked_for_with_every_message(fake: FakeRegistry) -> None:
    registry = open_registry(fake.url)
    for _ in range(20):
        with pytest.raises(UnknownSchema):
            registry.by_id(99)
    assert fake.requests == ["GET /schemas/ids/99"]
    with pytest.raises(UnknownSchema):
        registry.by_id(2**32 - 1)  # no registry gives such an id
    assert len(fake.requests) == 1


def test_an_id_that_appears_later_is_found(fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topics.schema_registry.UNKNOWN_FOR_S", 0.0)
    registry = open_registry(fake.url)
    with pytest.raises(UnknownSchema):
        registry.by_id(fake.first_id)
    rows = register_all(Client(fake.url), ENTRIES[:1])
    assert registry.by_id(rows[0].id or 0) == ENTRIES[0].schema


def test_without_a_url_the_local_registry_answers() -> None:
    assert isinstance(open_registry(""), LocalRegistry)


def test_the_fake_writes_texts_anew() -> None:
    """Else the comparison in resolution form would not be tested."""
    for entry in ENTRIES:
        text = json.dumps(printed(entry.schema))
        assert text != schema_text(entry.schema) and resolution_form(json.loads(text)) == entry.schema


# What goes wrong


def impatient(url: str, timeout_s: float = 60.0) -> Client:
    return Client(url, timeout_s=timeout_s, patience_s=PATIENCE_S)


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("status", 503)],
        [Fault("status", 500), Fault("status", 502)],
        [Fault("status", 429, headers={"Retry-After": "0"})],
        [Fault("text", 503, "")],
        [Fault("drop")],
        [Fault("drop"), Fault("status", 504), Fault("drop")],
        [Fault("silence", seconds=0.8)],
    ],
    ids=lambda faults: "+".join(f"{fault.kind}{fault.status}" for fault in faults),
)
def test_what_passes_is_tried_again(fake: FakeRegistry, faults: list[Fault]) -> None:
    rows = register_all(Client(fake.url), ENTRIES[:1])
    registry = HttpRegistry(Client(fake.url, timeout_s=0.3))
    fake.faults.extend(faults)
    assert registry.by_id(rows[0].id or 0) == ENTRIES[0].schema
    fake.faults.extend(faults)
    assert registry.id_of(ENTRIES[0].subject, ENTRIES[0].schema) == rows[0].id


@pytest.mark.parametrize("at", range(12))
def test_registering_survives_a_fault_at_any_request(fake: FakeRegistry, at: int) -> None:
    """A lost answer to a POST that did register is no harm: it is posted again."""
    client = Client(fake.url, transport=_Losing(at))
    rows = register_all(client, ENTRIES[:2])
    assert [row.state for row in rows] == ["registered"] * 2
    assert fake.subjects == {entry.subject: [row.id] for entry, row in zip(ENTRIES[:2], rows, strict=True)}


class _Losing(httpx.HTTPTransport):
    """Loses the answer to the request number `at`, after the server has worked on it."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._left = at

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        self._left -= 1
        if self._left == -1:
            answer.read()
            raise httpx.ReadError("connection reset by peer")
        return answer


def test_a_registry_that_is_down_is_one_line_and_no_fault_of_the_message(fake: FakeRegistry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    registry = HttpRegistry(impatient(f"http://secret:pass@127.0.0.1:{port}"))
    for ask in (lambda: registry.by_id(1), lambda: registry.id_of("s", "string")):
        with pytest.raises(RegistryError) as raised:
            ask()
        said = str(raised.value)
        assert said.startswith(f"TIDEBOOK_SCHEMA_REGISTRY_URL=http://127.0.0.1:{port}: cannot be reached (")
        assert "\n" not in said and "pass" not in said and "secret" not in said
        assert not isinstance(raised.value, ValueError)  # a WireError would put messages into quarantine


ANSWERS = {
    "a web page": (Fault("text", 200, "<html>"), "right host and path"),
    "no schema": (Fault("text", 200, "{}"), "no schema in it"),
    "a list": (Fault("text", 200, "[]"), "no schema in it"),
    "another path": (Fault("text", 404, "<html>"), "404 without an error code.*right host and path"),
    "forbidden": (Fault("text", 403, "{}"), "forbids /schemas/ids/1 .*403"),
    "moved": (Fault("text", 301, "", {"Location": "http://elsewhere/"}), "has moved .301."),
    "always 503": (Fault("status", 503), "answers 50003: Error while forwarding"),
    "never": (Fault("silence", seconds=0.5), "cannot be reached .ReadTimeout"),
    "asks to wait long": (Fault("text", 429, "{}", {"Retry-After": "3600"}), "answers 429"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_that_is_none_is_told_in_one_line(fake: FakeRegistry, case: str) -> None:
    fault, told = ANSWERS[case]
    fake.faults.extend([fault] * 50)
    client = impatient(fake.url, 0.3) if fault.kind == "silence" else impatient(fake.url)
    with pytest.raises(RegistryError, match=told) as raised:
        HttpRegistry(client).by_id(1)
    assert "\n" not in str(raised.value) and "TIDEBOOK_SCHEMA_REGISTRY_URL=http://" in str(raised.value)


def test_wrong_credentials_are_told_without_the_password() -> None:
    with serve(FakeRegistry(user="u", password="right")) as fake:
        wrong = fake.url.replace("right", "hush")
        with pytest.raises(RegistryError, match=r"refuses these credentials \(401\)") as raised:
            HttpRegistry(Client(wrong)).by_id(1)
        assert "hush" not in str(raised.value) and len(fake.requests) == 1


@pytest.mark.parametrize(
    "url", ["localhost:8081", "ftp://h", "http://", "http://u:hush@h:port", "kafka:9092", "http://h:99999999"]
)
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(RegistryError, match=r"TIDEBOOK_SCHEMA_REGISTRY_URL=.*user:password@") as raised:
        Client(url)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"schema": 'syntax = "proto3";', "schemaType": "PROTOBUF"}, "a PROTOBUF schema"),
        ({"schema": '"t.n.Other"', "references": [{"name": "t.n.Other"}]}, "refers to other schemas"),
        ({"schema": '{"type": "record", "name": "X"}'}, "no Avro schema"),
        ({"schema": '{"type": "nothing"}'}, "no Avro schema"),
    ],
)
def test_a_schema_that_is_not_ours_to_read_makes_a_message_undecodable(answer: Any, told: str) -> None:
    client = Client("http://h", transport=httpx.MockTransport(lambda _: httpx.Response(200, json=answer)))
    with pytest.raises(Undecodable, match=told):
        HttpRegistry(client).by_id(7)


@pytest.mark.parametrize("given", [0, -1, 2**31, "7", None, True, 1.5])
def test_an_id_that_does_not_fit_the_wire_is_refused(given: Any) -> None:
    text = schema_text(ENTRIES[0].schema)
    answer = {"schema": text, "id": given, "version": 1}
    client = Client("http://h", transport=httpx.MockTransport(lambda _: httpx.Response(200, json=answer)))
    with pytest.raises(RegistryError, match="id is"):
        HttpRegistry(client).id_of(ENTRIES[0].subject, ENTRIES[0].schema)


def test_a_lookup_that_answers_another_schema_is_refused(fake: FakeRegistry) -> None:
    """A registry that takes a schema for the same when it is not (a default changed) must not give its id."""
    register_all(Client(fake.url), ENTRIES[:1])
    changed = copy.deepcopy(ENTRIES[0].schema)
    changed["fields"][0]["name"] += "_"
    fake.schemas[fake.first_id] = json.dumps(changed)
    fake.lookup = lambda subject, text: {  # type: ignore[method-assign]
        "subject": subject, "id": fake.first_id, "version": 1, "schema": fake.schemas[fake.first_id]
    }  # fmt: skip
    with pytest.raises(RegistryError, match="another schema than was looked up"):
        HttpRegistry(Client(fake.url)).id_of(ENTRIES[0].subject, ENTRIES[0].schema)


def test_what_is_read_back_must_be_the_same(fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topics.schema_registration.PATIENCE_S", 0.1)
    honest = fake.get_schema
    fake.get_schema = lambda schema_id: (  # type: ignore[method-assign]
        honest(schema_id) and {"schema": json.dumps(printed(ENTRIES[1].schema))}
    )
    with pytest.raises(RegistryError, match=f"{ENTRIES[0].subject} version 1: id 4711 stands for another"):
        register_all(Client(fake.url), ENTRIES[:1])


def test_a_schema_that_the_registry_calls_invalid_is_refused(fake: FakeRegistry) -> None:
    broken = Entry(
        1, "broken-value", 1, {"type": "record", "name": "t.X", "fields": [{"name": "a", "type": "q"}]}
    )
    rows = register_all(Client(fake.url), [broken])
    assert rows[0].state == "refused" and rows[0].detail.startswith("42201: ")


@pytest.mark.parametrize(
    ("level", "then"), [("NONE", "BACKWARD"), ("FORWARD", "BACKWARD"), ("FULL_TRANSITIVE", "FULL_TRANSITIVE")]
)
def test_a_weaker_level_is_raised_and_a_stricter_one_stays(fake: FakeRegistry, level: str, then: str) -> None:
    fake.levels[ENTRIES[0].subject] = level
    assert register_all(Client(fake.url), ENTRIES[:1], dry_run=True)[0].compatibility == level
    assert register_all(Client(fake.url), ENTRIES[:1])[0].compatibility == then
    assert fake.levels[ENTRIES[0].subject] == then
