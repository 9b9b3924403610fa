"""The gate and the endpoints over a stand-in for the intake: who gets in, what an answer looks like, nothing else."""

import asyncio
import gzip
import re
import time
from codecs import BOM_UTF8
from contextlib import closing

import orjson
import pytest
from fastapi import APIRouter

from pipeline.api import app as app_module
from pipeline.api.app import Gate, make_fastapi
from pipeline.api.client import ApiError
from pipeline.api.keys import Keys
from pipeline.api.limits import ADDRESS, BATCH_MAX, Buckets, read_networks
from pipeline.api.routes_events import EventRoutes, Fate
from pipeline.api.shape import Answer, refused
from pipeline.api.webhooks import Deliveries, Webhook, sign
from pipeline.catalog import APPLICATIONS
from schemas.json_form import FieldFault
from tests.support.serving import ask

ROW = {row.domain: row for row in APPLICATIONS}
EVENT = {"type": "X", "asset_id": "a", "data": {}}
BODY = orjson.dumps(EVENT)
ID = "0" * 32
SECRET = b"a-secret-of-the-bank"


class StandIn:
    """Accepts everything but what says `refuse`; remembers what it was asked."""

    def __init__(self):
        self.asked, self.fails, self.away = [], None, False

    async def submit(self, row, client, items):
        self.asked.append((row.domain, client.id, items))
        if self.fails:
            raise self.fails
        return [self._answer(item) for item in items]

    def _answer(self, item):
        if self.away:
            return refused(ApiError(503, "broker_unavailable", "later", Retry_After="2"))
        if isinstance(item.body, FieldFault):
            return refused(ApiError(400, "malformed", str(item.body), item.body.path))
        if "refuse" in item.body:
            return refused(ApiError(422, "invalid", "no", "data.x"))
        return Answer(202, {"event_id": ID, "status": "accepted", "idempotency_key": item.key or "drawn"})


FATES = {
    "a" * 32: Fate(ROW["assets"], "SOLD", "acme", "accepted"),
    "b" * 32: Fate(
        ROW["assets"], "SOLD", "acme", "refused", {"reason": "no", "field": "data.x", "detail": "no"}
    ),
    "c" * 32: Fate(ROW["tokens"], "X", "acme", "applied"),
    "e" * 32: Fate(ROW["assets"], "INTERNAL_GAS_CHARGE", "acme", "applied"),
    "f" * 32: Fate(ROW["positions"], "POSITION_CREATED", "phone", "applied", user="alice"),
}


class World:
    def __init__(self, folder, keys, deliveries):
        self.intake, self.clock = StandIn(), 0.0
        hooks = {"bank": Webhook("bank", ROW["positions"], keys_client(), (SECRET,))}
        events = EventRoutes(APPLICATIONS, self.intake, hooks, deliveries, FATES.get)
        self.gate = Gate(
            make_fastapi([events.router(), odd_router()]),
            keys,
            10_000,
            events.direct(),
            Buckets(lambda: self.clock),
        )
        self.keys = {
            name: keys.create(client, user, scopes, rate)[1]
            for name, client, user, scopes, rate in (
                ("acme", "acme", "", ["assets:write", "service"], 1000),
                ("reader", "reader", "", ["tokens:read"], 1000),
                ("slow", "slow", "", ["assets:write"], 1),
                ("gas", "gas", "", ["gas:read"], 1000),
                ("alice", "phone", "alice", ["positions:write"], 1000),
                ("bob", "phone", "bob", ["positions:write"], 1000),
            )
        }

    def __call__(self, method, path, body=b"", key="", kind="application/json", **headers):
        given = {name.replace("_", "-"): value for name, value in headers.items() if name != "host"}
        if kind:
            given["Content-Type"] = kind
        if key:
            given["Authorization"] = f"Bearer {self.keys[key]}"
        return asyncio.run(ask(self.gate, method, path, body, given, headers.get("host", "198.51.100.7")))


def keys_client():
    from pipeline.api.client import Client

    return Client("bank", "", frozenset({"service"}))


def odd_router():
    router = APIRouter()

    @router.get("/v1/defect")
    async def defect():
        raise RuntimeError("secret\nlines")

    @router.get("/v1/number/{number}")
    async def number(number: int):
        return number

    return router


@pytest.fixture
def world(tmp_path):
    with closing(Keys(tmp_path / "k.db")) as keys, closing(Deliveries(tmp_path / "w.db")) as deliveries:
        yield World(tmp_path, keys, deliveries)


EVENTS, BATCH = "/v1/assets/events", "/v1/assets/events/batch"


def test_one_event(world):
    got = world("POST", EVENTS, BODY, "acme", Idempotency_Key="k1")
    assert (got.status, got.json) == (202, {"event_id": ID, "status": "accepted", "idempotency_key": "k1"})
    assert (
        got.headers["content-type"] == "application/json"
        and got.headers["x-content-type-options"] == "nosniff"
    )
    assert got.headers["ratelimit"].startswith('"key";r=')
    ((domain, client, (item,)),) = world.intake.asked
    assert (domain, client, item.body, item.key, item.source) == ("assets", "acme", EVENT, "k1", "api")
    assert world("POST", EVENTS, BODY, "acme", Idempotency_Key='"quoted"').json["idempotency_key"] == "quoted"


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({}, 401, "unauthorized"), ({"Authorization": "Bearer tbk_" + "A" * 43}, 401, "unauthorized"),
        ({"Authorization": "Basic abc"}, 401, "unauthorized"), ({"Authorization": "Bearer é"}, 401, "unauthorized"),
    ],
)  # fmt: skip
def test_without_a_key(world, headers, status, reason):
    got = world("POST", EVENTS, BODY, **headers)
    assert (got.status, got.error["reason"]) == (status, reason)
    assert got.headers["www-authenticate"] == "Bearer" and not world.intake.asked


def test_a_wrong_key_is_told_where_none_is_needed(world):
    assert world("GET", f"/v1/events/{'a' * 32}").status == 200
    assert world("GET", f"/v1/events/{'a' * 32}", Authorization="Bearer x").status == 401


@pytest.mark.parametrize(
    ("key", "path"), [("reader", EVENTS), ("reader", BATCH), ("slow", "/v1/tokens/events")]
)
def test_outside_the_scope(world, key, path):
    got = world("POST", path, BODY, key)
    assert (got.status, got.error["reason"]) == (403, "forbidden") and not world.intake.asked


@pytest.mark.parametrize(
    ("body", "kind", "status", "field"),
    [
        (b"{", "application/json", 400, ""),
        (b"\xff", "application/json", 400, ""),
        (b'{"a":1,"a":2}', "application/json", 400, "a"),
        (b"[" * 100_000, "application/json", 413, ""),
        (b"[" * 9_000, "application/json", 400, ""),
        (BODY, "", 415, "Content-Type"),
        (BODY, "text/plain", 415, "Content-Type"),
        (BODY, "application/json; charset=latin-1", 415, "Content-Type"),
        (BODY, "Application/JSON; charset=UTF-8", 202, ""),
        (BOM_UTF8 + BODY, "application/json", 202, ""),
        (b'{"refuse":1}', "application/json", 422, "data.x"),
    ],
)
def test_bodies_of_one(world, body, kind, status, field):
    got = world("POST", EVENTS, body, "acme", kind)
    assert got.status == status, got
    if status != 202:
        assert got.error["field"] == field or (status == 415 and not got.error["field"])
        assert b"Traceback" not in got.body


def test_a_body_that_is_packed(world):
    got = world("POST", EVENTS, gzip.compress(BODY), "acme", Content_Encoding="gzip")
    assert (got.status, got.error["field"]) == (415, "Content-Encoding")
    assert got.headers["accept-encoding"] == "identity"
    assert world("POST", EVENTS, BODY, "acme", Content_Encoding="Identity").status == 202


def test_a_batch(world):
    got = world(
        "POST", BATCH, orjson.dumps([EVENT, {**EVENT, "idempotency_key": "own"}]), "acme", Idempotency_Key="k"
    )
    assert got.status == 202 and got.json["accepted"] == 2
    assert [item.key for item in world.intake.asked[0][2]] == ["k:0", None]
    got = world("POST", BATCH, orjson.dumps([EVENT, {"refuse": 1}]), "acme")
    assert got.status == 200 and (got.json["accepted"], got.json["refused"]) == (1, 1)
    assert got.json["results"][1] == {
        "status": "refused", "code": 422, "error": {"reason": "invalid", "field": "data.x", "detail": "no"},
    }  # fmt: skip


def test_lines(world):
    body = BOM_UTF8 + BODY + b"\n\n{\n" + BODY + b"\r\n"
    got = world("POST", BATCH, body, "acme", "application/x-ndjson")
    assert got.status == 200 and [one.get("code", 202) for one in got.json["results"]] == [202, 400, 202]
    assert got.json["results"][1]["error"]["field"] == "line 3"


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"[]", "application/json", "empty"), (b"{}", "application/json", "invalid"),
        (b"", "application/x-ndjson", "empty"), (b"\n" * 9_000, "application/x-ndjson", "empty"),
        (b"[" + b"1," * 10_000 + b"1]", "application/json", "too_many"),
        (b"1\n" * (BATCH_MAX + 1), "application/x-ndjson", "too_many"),
        (b"\n" * 3 * BATCH_MAX, "application/x-ndjson", "too_many"),
    ],
)  # fmt: skip
def test_bodies_of_many(world, body, kind, reason):
    world.gate.body_max = 1 << 20
    got = world("POST", BATCH, body, "acme", kind)
    assert (got.status, got.error["reason"]) == (422, reason) and not world.intake.asked


def test_what_is_away_is_503(world):
    world.intake.away = True
    got = world("POST", BATCH, orjson.dumps([EVENT, EVENT]), "acme")
    assert (got.status, got.error["reason"], got.headers["retry-after"]) == (503, "broker_unavailable", "2")
    assert world("POST", EVENTS, BODY, "acme").headers["retry-after"] == "2"


def test_a_body_in_parts_and_without_a_length(world):
    assert world("POST", EVENTS, [BODY[:5], b"", BODY[5:]], "acme").status == 202
    got = world("POST", EVENTS, [b"x" * 6_000, b"x" * 6_000, b"x"], "acme")
    assert (got.status, got.headers["connection"]) == (413, "close")
    assert world("POST", EVENTS, b"", "acme", Content_Length="10001").status == 413
    assert world.gate.held._now == 0


@pytest.mark.parametrize("name", ["", "x" * 201, "a b", "é"])
def test_a_wrong_idempotency_key_is_named(world, name):
    got = world("POST", EVENTS, BODY, "acme", Idempotency_Key=name)
    assert (got.status, got.error["field"]) == (422, "Idempotency-Key")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", EVENTS, 405), ("PUT", BATCH, 405), ("TRACE", EVENTS, 405), ("GET", "/v1/webhooks/bank", 405),
        ("GET", "/", 404), ("POST", "/v1/nothing/events", 404), ("GET", "/v1/number/x", 422), ("GET", "/docs", 404),
        ("BREW", EVENTS, 405),
    ],
)  # fmt: skip
def test_wrong_ways(world, method, path, status):
    got = world(method, path)
    assert got.status == status and set(got.error) == {"reason", "field", "detail"}
    if status == 405:
        assert got.headers["allow"] == "POST"
    if status == 422:
        assert got.error["field"] == "number"


def test_rates_are_a_keys_and_an_addresses(world):
    assert [world("POST", EVENTS, BODY, "slow").status for _ in range(4)] == [202, 202, 429, 429]
    assert world("POST", EVENTS, BODY, "acme").status == 202
    got = world("POST", EVENTS, BODY, "slow", host="192.0.2.1")
    assert got.headers["retry-after"] == "1" and got.error["reason"] == "too_many_requests"
    world.clock += 1
    assert world("POST", EVENTS, BODY, "slow").status == 202
    quota = ADDRESS.quota
    answers = [world("GET", f"/v1/events/{'a' * 32}").status for _ in range(quota + 1)]
    assert answers == [200] * quota + [429]
    assert world("GET", f"/v1/events/{'a' * 32}", host="192.0.2.9").status == 200
    assert world("POST", EVENTS, BODY, Authorization="Bearer tbk_x").status == 429  # guesses are limited, too


def test_an_address_behind_a_trusted_proxy_has_its_own_rate(world):
    """The proxy's word counts; whoever comes without it is one address, whatever he writes."""
    path = f"/v1/events/{'a' * 32}"
    for proxies, expected in (((), 429), (read_networks("198.51.100.7"), 200)):
        world.gate.proxies = proxies
        for place in range(ADDRESS.quota):
            assert world("GET", path, X_Forwarded_For=f"192.0.2.{place}, 192.0.2.1").status == 200
        assert world("GET", path, X_Forwarded_For="192.0.2.1").status == 429
        assert world("GET", path, X_Forwarded_For="192.0.2.2").status == expected


def test_a_question_for_the_head_alone(world):
    got = world("HEAD", f"/v1/events/{'a' * 32}")
    assert got.status == 200 and int(got.headers["content-length"]) > 0
    assert world("HEAD", EVENTS).headers["allow"] == "POST"


def test_too_much_at_once(world, monkeypatch):
    monkeypatch.setattr(app_module, "IN_FLIGHT_MAX", 0)
    got = world("POST", EVENTS, BODY, "acme")
    assert (got.status, got.error["reason"]) == (503, "overloaded")


@pytest.mark.parametrize("way", [("GET", "/v1/defect"), ("POST", EVENTS)])
def test_a_defect_is_one_line(world, capsys, way):
    world.intake.fails = KeyError("secret\nlines")
    got = world(*way, BODY, "acme")
    assert (got.status, got.error["reason"]) == (500, "defect")
    (line,) = capsys.readouterr().err.splitlines()
    name = re.search(r"under ([0-9a-f]{12})", got.error["detail"])[1]
    assert f"defect {name}" in line and "secret" in line and ".py:" in line
    assert "secret" not in got.body.decode()


@pytest.mark.parametrize(
    ("event_id", "key", "status", "told"),
    [
        ("a" * 32, "", 200, "accepted"), ("b" * 32, "", 200, "refused"), ("c" * 32, "", 401, ""),
        ("c" * 32, "slow", 403, ""), ("c" * 32, "acme", 200, "applied"), ("c" * 32, "reader", 200, "applied"),
        ("d" * 32, "", 401, ""), ("d" * 32, "acme", 404, ""), ("e" * 32, "", 401, ""), ("e" * 32, "slow", 403, ""),
        ("e" * 32, "reader", 403, ""), ("e" * 32, "gas", 200, "applied"), ("e" * 32, "acme", 200, "applied"),
        ("f" * 32, "alice", 200, "applied"), ("f" * 32, "bob", 403, ""), ("f" * 32, "gas", 403, ""),
        ("led_" + "d" * 32, "acme", 404, ""), ("nix", "", 422, ""),
    ],
)  # fmt: skip
def test_what_became_of_an_event(world, event_id, key, status, told):
    got = world("GET", f"/v1/events/{event_id}", key=key)
    assert got.status == status
    if status == 200:
        assert got.json["status"] == told and ("error" in got.json) == (told == "refused")
    elif status in (401, 404):  # one that is not told, and one that there is not, are answered alike
        assert got.json == world("GET", f"/v1/events/{'d' * 32}", key=key).json


def deliver(world, body=BODY, at=None, **headers):
    header = sign(SECRET, int(time.time()) if at is None else at, body)
    return world("POST", "/v1/webhooks/bank", body, Tidebook_Signature=header, **headers)


def test_a_delivery(world):
    now = int(time.time())
    got = deliver(world, at=now, Tidebook_Delivery="d1")
    assert got.status == 202 and got.json["results"][0]["idempotency_key"] == "d1"
    ((domain, client, (item,)),) = world.intake.asked
    assert (domain, client, item.source) == ("positions", "bank", "webhook:bank")
    assert (deliver(world, at=now).status, len(world.intake.asked)) == (409, 1)
    got = deliver(world, orjson.dumps([EVENT, EVENT, {**EVENT, "idempotency_key": "own"}]))
    keys = [item.key for item in world.intake.asked[1][2]]
    assert re.fullmatch(r"[0-9a-f]{64}:0", keys[0]) and keys[1].endswith(":1") and keys[2] is None


def test_a_delivery_that_failed_may_come_again(world):
    now = int(time.time())
    world.intake.away = True
    assert deliver(world, at=now).status == 503
    world.intake.away, world.intake.fails = False, RuntimeError("x")
    assert deliver(world, at=now).status == 500
    world.intake.fails = None
    assert deliver(world, at=now).status == 202
    assert deliver(world, at=now).status == 409
    keys = {item.key for _, _, items in world.intake.asked for item in items}
    assert len(keys) == 1  # one event, however often


def test_a_refused_delivery_is_remembered(world):
    now = int(time.time())
    assert deliver(world, b"{", at=now).status == 400
    assert deliver(world, b"{", at=now).status == 409


def test_deliveries_that_are_not(world):
    assert world("POST", "/v1/webhooks/nobody", BODY).status == 404
    assert world("POST", "/v1/webhooks/bank", BODY).error["reason"] == "unsigned"
    assert deliver(world, at=1).error["reason"] == "stale"
    assert deliver(world, b"[]").error["reason"] == "empty"
    assert not world.intake.asked
