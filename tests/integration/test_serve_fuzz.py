"""Hostile requests: schemathesis against the document, and ten thousand bodies of every kind of wrong.

Every answer is an acceptance or a 4xx that says what is at fault; never a 5xx, never a stack trace. The service is a
real one: a broker, the journal, states and a history that know a few things, so that rules are reached, not only
shapes.
"""

import asyncio
import json
import random
from copy import deepcopy
from pathlib import Path

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from pipeline.api.app import make_fastapi
from pipeline.api.openapi import document
from pipeline.api.reads import Reads, read_router
from pipeline.api.routes_reports import report_router
from pipeline.catalog import APPLICATIONS
from schemas.exact import names_of
from schemas.json_form import is_amount
from schemas.loader import by_topic
from tests.support.read_world import world
from tests.support.serving import Got, Served, ask

pytest.importorskip("chdb")
pytestmark = pytest.mark.xdist_group("serve-fuzz")

GOLDEN = Path(__file__).parents[1] / "golden"
BODIES = 10_000
SEED = 20241107
DOMAINS = [row.domain for row in APPLICATIONS]
SCOPES = [f"{domain}:{what}" for domain in DOMAINS for what in ("write", "read")]


def golden():
    """Golden cases by domain: states to meet, and events that mean something."""
    return {
        domain: [orjson.loads(path.read_bytes()) for path in sorted((GOLDEN / domain).glob("*.json"))]
        for domain in DOMAINS
    }


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    keys = {
        "all": {
            "client": "fuzz",
            "scopes": [*SCOPES, "service", "root", "people:write", "people:read"],
            "rate_per_s": 1e9,
        },
        "user": {"client": "user", "user_id": "u1", "scopes": SCOPES, "rate_per_s": 1e9},
    }
    with world(folder) as known:
        for domain, cases in golden().items():
            known.tell(domain, [event for case in cases for event in case["before"]])
        with Served(folder, keys=keys, clickhouse_url=known.port.url) as running:
            yield running


# schemathesis

DOCUMENT = document(
    make_fastapi([read_router(Reads()), report_router(Reads().clickhouse)]), APPLICATIONS, "test"
)
OPERATIONS = [
    (method.upper(), path)
    for path, operations in DOCUMENT["paths"].items()
    for method in operations
    if method != "parameters"
]
load_all_checks()
# A schema can't say which assets there are: what is right by it may still be refused by a rule, with a 4xx.
BEYOND_SCHEMA = [CHECKS.get_one("positive_data_acceptance")]
# Events of a batch are judged one by one: wrong ones are results of a 200, not a refusal of the others.
ONE_BY_ONE = [*BEYOND_SCHEMA, CHECKS.get_one("negative_data_rejection")]
QUICK = settings(
    max_examples=10, suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)  # fmt: skip


@pytest.fixture(scope="module")
def schema():
    return schemathesis.openapi.from_dict(json.loads(json.dumps(DOCUMENT)))


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_the_document_is_kept(served, schema, method, path, mode):
    """Status, content type, headers and body are as declared, and what the schema forbids is refused."""
    operation = schema[path][method]
    if mode is GenerationMode.NEGATIVE and not (
        operation.body or operation.query or operation.path_parameters
    ):
        pytest.skip("nothing to be wrong about")

    @given(case=operation.as_strategy(generation_mode=mode))
    @QUICK
    def keeps(case):
        case.call_and_validate(
            base_url=served.url, headers={"Authorization": f"Bearer {served.keys['all']}"},
            excluded_checks=ONE_BY_ONE if path.endswith("/batch") else BEYOND_SCHEMA,
        )  # fmt: skip

    keeps()


# bodies


def sample(form, names, field, rng):
    """A value that a field of this form might have."""
    if isinstance(form, list):
        return sample(rng.choice([one for one in form if one != "null"]), names, field, rng)
    if isinstance(form, dict):
        kind = form["type"]
        if kind == "array":
            return [sample(form["items"], names, field, rng) for _ in range(rng.randrange(3))]
        if kind == "record":
            return {
                one["name"]: sample(one["type"], names, one["name"], rng)
                for one in form["fields"]
                if "default" not in one or rng.random() < 0.7
            }
        return "2024-05-01T12:00:00.000Z" if "logicalType" in form else sample(kind, names, field, rng)
    if form in names:
        return sample(names[form], names, field, rng)
    if form == "boolean":
        return rng.random() < 0.5
    if form in ("int", "long"):
        return rng.choice([0, 1, 2, 100, -1])
    if is_amount(field):
        return rng.choice(["0", "1", "12.50", "100", "-1", "1e3", "0.000001"])
    return rng.choice(["u1", "u2", "a1", "USD", "active", "FUNDED", "USER", "xrpl:0/rA", "x", ""])


def events(row, rng):
    """One body for every type of the topic, right by its schema; and those of the golden cases."""
    form = by_topic()[row.topic].resolution
    names, fields = names_of(form), {one["name"]: one["type"] for one in form["fields"]}
    for kind in row.types.values():
        yield {
            "type": kind.name,
            row.key: rng.choice(["u1", "a1", "p1", "acc1"]),
            "at": "2024-05-01T12:00:00Z",
            "user_id": rng.choice(["u1", "u2", None]),
            "data": sample(fields[kind.payload], names, "", rng),
        }
    for case in golden()[row.domain]:
        event = case["event"]
        yield {
            "type": event["type"],
            row.key: event["key"],
            **{name: event[name] for name in ("at", "user_id", "data") if name in event},
        }


JUNK = [
    None, True, False, 0, -1, 1.5, 1e308, 10**40, -(10**30), 2**63, "", "x" * 300, "x" * 70_000, "\0", "'; DROP TABLE",
    "\u202e", "é" * 200, "NaN", "1e999999", "-0", "١٢", [], {}, [[]], {"a": {"b": []}}, [None], ["x"] * 50,
    "2024-13-99", "9999-12-31T23:59:59Z", "0000-00-00T00:00:00Z", 253402300800000, "xrpl:0/", "/", "..", "null", "0x10",
    "1_000", " 1 ",
]  # fmt: skip


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


def mutated(body, rng):
    """The body with one to three changes."""
    body = json.loads(json.dumps(body))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        path = rng.choice(list(places(body))[1:] or [()])
        if not path:
            return deepcopy(rng.choice(JUNK))
        holder = body
        for step in path[:-1]:
            holder = holder[step]
        what = rng.random()
        if what < 0.6:
            holder[path[-1]] = deepcopy(rng.choice(JUNK))
        elif what < 0.8:
            del holder[path[-1]]
        elif isinstance(holder, dict):
            holder[rng.choice(["x", "", "type", "event_id", "source", "\ud800", "a" * 500])] = rng.choice(
                JUNK
            )
        else:
            holder.append(deepcopy(rng.choice(JUNK)))
    return body


def hostile(text, rng):
    """Bytes that are perhaps no JSON."""
    what = rng.randrange(9)
    if what == 0:
        return rng.randbytes(rng.randrange(200))
    if what == 1:
        return text[: rng.randrange(len(text) + 1)]
    if what == 2:
        spot = rng.randrange(len(text))
        return text[:spot] + rng.randbytes(1) + text[spot + 1 :]
    if what == 3:
        return rng.choice([b"[", b'{"a":', b'[{"data":']) * rng.randrange(1, 20_000)
    if what == 4:
        return text.replace(
            b'"u1"', rng.choice([b"1e999", b"-" + b"9" * 5000, b"NaN", b"0" * 9, b'"\\ud800"'])
        )
    if what == 5:
        return rng.choice(
            [b"", b"null", b"1", b'"x"', b"[]", b"{}", b"true", b"\xef\xbb\xbf{}", b"{}{}", b"\x00"]
        )
    if what == 6:
        return text + text
    if what == 7:
        return text.replace(b'"type"', b'"type":"X","type"')
    return text.replace(b"u1", b"\xff\xfe")


def bodies(rng):
    """(domain, body), many."""
    made = 0
    while made < BODIES:
        for row in APPLICATIONS:
            for event in list(events(row, rng)):
                right = json.dumps(event).encode()
                yield row.domain, right
                for _ in range(3):
                    yield row.domain, json.dumps(mutated(event, rng)).encode()
                yield row.domain, hostile(right, rng)
                made += 5


def blame(domain, body, got: Got):
    """What is wrong with an answer, None if nothing is."""
    if b"Traceback" in got.body or b".py" in got.body:
        return "a stack trace"
    if got.status == 202:
        return (
            None if set(got.json) == {"event_id", "status", "idempotency_key"} else "not the answer of a 202"
        )
    if got.status not in (400, 403, 404, 409, 413, 422):
        return f"status {got.status}"
    error = got.error
    if set(error) != {"reason", "field", "detail"} or not error["reason"] or "\n" in error["detail"]:
        return "not the form of an error"
    if error["reason"] == "unprocessable":
        return "a rule that raised"
    said = error["field"] or "the body is not JSON" in error["detail"] or error["detail"].startswith("body")
    return None if said else "no field is named"


@pytest.mark.parametrize("key", ["all", "user"])
def test_ten_thousand_bodies(served, key, capfd):
    rng = random.Random(SEED if key == "all" else SEED + 1)
    asked = list(bodies(rng))
    asked = asked if key == "all" else rng.sample(asked, 1000)

    async def tell(some):
        return await asyncio.gather(
            *(
                ask(served.gate, "POST", f"/v1/{domain}/events", body, served.bearer(key))
                for domain, body in some
            )
        )

    wrong, statuses = [], {}
    for start in range(0, len(asked), 50):
        some = asked[start : start + 50]
        for (domain, body), got in zip(some, served.call(tell(some)), strict=True):
            statuses[got.status] = statuses.get(got.status, 0) + 1
            if fault := blame(domain, body, got):
                wrong.append((fault, domain, body[:300], got.status, got.body[:300]))
    assert not wrong, f"{len(wrong)} of {len(asked)}, e.g. {wrong[:5]}"
    assert all(statuses.get(status, 0) >= 10 for status in (202, 400, 422)), statuses
    assert "defect" not in capfd.readouterr().err


def test_batches_of_hostile_events(served):
    """One bad event spoils nobody else's answer."""
    rng = random.Random(SEED)
    for row in APPLICATIONS:
        some = [mutated(event, rng) if rng.random() < 0.5 else event for event in events(row, rng)] or [{}]
        got = served.call(
            ask(
                served.gate,
                "POST",
                f"/v1/{row.domain}/events/batch",
                json.dumps(some).encode(),
                served.bearer("all"),
            )
        )
        assert got.status in (200, 202), got
        told = got.json
        assert len(told["results"]) == len(some) == told["accepted"] + told["refused"]
        lines = b"\n".join([*(json.dumps(one).encode() for one in some[:3]), b"{"])
        headers = {**served.bearer("all"), "Content-Type": "application/x-ndjson"}
        got = served.call(ask(served.gate, "POST", f"/v1/{row.domain}/events/batch", lines, headers))
        assert got.status == 200 and got.json["results"][-1]["code"] == 400, got
