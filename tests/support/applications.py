"""Events of applications as tests write them, and the fold over them, with books in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import orjson

from pipeline.catalog.assets import ASSETS
from pipeline.domain.account import AccountCode, AccountRef, TransferCode
from pipeline.domain.applications.event import AppEvent, AppTopic, Emit
from pipeline.domain.applications.fold import Fold, Judged, Key, Overlay
from pipeline.domain.applications.told import alert_of_refusal, outcome_record
from pipeline.domain.findings import deterministic_id
from pipeline.domain.flows.accounts import CREDIT_NORMAL
from pipeline.domain.flows.events import FlowEvent, Kind, to_dict
from pipeline.domain.flows.outcome import Outcome
from schemas.codec import Codec
from schemas.exact import names_of
from schemas.freeze import freeze
from schemas.loader import by_topic, schemas
from schemas.registry import LocalRegistry
from sinks.embedded_books import connect
from sinks.offchain import OffchainBooks

AT = "2026-01-05T12:00:00Z"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def at_ms(text: str) -> int:
    """ISO 8601 → ms since 1970."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(milliseconds=1)


def event(
    row: AppTopic, type: str, key: str, at: str | int = AT, data: Mapping[str, Any] | None = None, *,
    user_id: str = "", app_id: str = "", client: str = "test", source: str = "api", id: str = "",
    idempotency_key: str = "",
) -> AppEvent:  # fmt: skip
    """An event of `row`'s topic; `data` as a request has it: ISO times, fields with a default may be left out.

    Without an id, it is made of what the event says. Raises KeyError for a type that is none, ValueError for data
    that its schema does not have or misses.
    """
    payload = _payload_form(row.topic, row.types[type].payload)
    said = dict(data or {})
    ms = at_ms(at) if isinstance(at, str) else at
    id = id or deterministic_id(row.topic, type, key, str(ms), user_id, orjson.dumps(said).decode())
    return AppEvent(
        topic=row.topic, id=id, type=type, key=key, at_ms=ms, data=_filled(payload, said, type), user_id=user_id,
        app_id=app_id, client=client, idempotency_key=idempotency_key or id, source=source, recorded_ms=ms,
    )  # fmt: skip


def event_of(row: AppTopic, case: Mapping[str, Any], id: str) -> AppEvent:
    """The event of its JSON form in a golden case: type, key, at, data, and any field of the envelope."""
    known = {"type", "key", "at", "data", "user_id", "app_id", "client", "source", "id", "idempotency_key"}
    if set(case) - known:
        raise ValueError(f"an event of a case has no {', '.join(sorted(set(case) - known))}")
    return event(row, **{"id": id, **case})


def record_of(row: AppTopic, told: AppEvent) -> dict[str, Any]:
    """The message's record of an event, with all fields of the topic's schema."""
    record = {field["name"]: None for field in by_topic()[row.topic].resolution["fields"]}
    record.update(
        {
            "event_id": told.id, "type": told.type, row.key: told.key, "user_id": told.user_id or None,
            "app_id": told.app_id, "client": told.client, "idempotency_key": told.idempotency_key,
            "source": told.source, "at": told.at_ms, "recorded_at": told.recorded_ms,
            row.types[told.type].payload: dict(told.data),
        }
    )  # fmt: skip
    return record


def codec() -> Codec:
    """A codec over the schemas as they are in the files now, whatever the registry file says."""
    return Codec(LocalRegistry(freeze((), schemas())[0]))


class TestFold:
    """A fold as the books role runs it: states are kept as JSON, money is judged by embedded books."""

    __test__ = False

    def __init__(self, row: AppTopic) -> None:
        self.row = row
        self.held: dict[Key, bytes] = {}  # states as the store keeps them
        self.before: dict[Key, Any] = {}  # of the states that the last batch changed
        self.changed: dict[Key, Any] = {}  # by the last batch, None where a state is no more
        self._books: OffchainBooks | None = None

    @property
    def asked(self) -> bool:
        """Whether anything was asked of the books yet."""
        return self._books is not None

    @property
    def books(self) -> OffchainBooks:
        """The books; made when they are first needed."""
        if self._books is None:
            self._books = OffchainBooks(connect(sync=False), again=True)
        return self._books

    def apply(self, events: Iterable[AppEvent]) -> list[Judged]:
        """What became of each event; the batch's states are kept. Raises what a rule's defect has raised."""
        fold = Fold(self.row.types, self.state, self._post)
        judged = fold.apply(events)
        for one in judged:
            if one.failed is not None:
                raise one.failed
        self.before = {key: self.state(*key) for key in fold.overlay.changed}
        self.changed = {}
        for (kind, id), value in fold.overlay.changed.items():
            self.changed[kind, id] = value
            if value is None:
                self.held.pop((kind, id), None)
            else:
                self.held[kind, id] = orjson.dumps(value)  # what is no JSON fails here
        return judged

    def one(self, told: AppEvent) -> Judged:
        """What became of one event."""
        return self.apply([told])[0]

    def state(self, kind: str, id: str) -> dict[str, Any] | None:
        """A state, None if there is none."""
        found = self.held.get((kind, id))
        return None if found is None else orjson.loads(found)

    def states(self, kind: str) -> dict[str, dict[str, Any]]:
        """All states of a kind by id."""
        return {id: orjson.loads(value) for (k, id), value in sorted(self.held.items()) if k == kind}

    def balance(self, asset: str, code: AccountCode, owner: str = "", subject: str = "") -> int:
        """What an account holds: of a credit-normal one credits − debits − pending debits, else debits − credits."""
        ref = AccountRef(asset, int(code), owner, subject)
        row = self.books.store.accounts([ref])[ref]
        if row is None:
            return 0
        if code in CREDIT_NORMAL:
            return row.credits_posted - row.debits_posted - row.debits_pending
        return row.debits_posted - row.credits_posted

    def close(self) -> None:
        """Let go of the books."""
        if self._books is not None:
            self._books.store.close()
            self._books = None

    def _post(self, flows: Iterable[FlowEvent], opens: Iterable[AccountRef]) -> list[Outcome]:
        self.books.store.create_accounts(list(opens))
        return self.books.apply(list(flows))


def fold_of(row: AppTopic) -> TestFold:
    """A fold of a topic that has no states yet."""
    return TestFold(row)


def outcome_of(fold: TestFold, judged: Judged) -> Emit:
    """What is told of an asset's event, with its figures."""
    return outcome_record(ASSETS, judged, Overlay(fold.state))


def told_of(fold: TestFold, judged: Judged) -> dict[str, Any]:
    """What a golden case compares: outcome, states, flow, emits, alerts of the batch's only event."""
    decision, refused = judged.decision, judged.refused
    alerts = [note["rule"] for note in decision.alerts] if decision else []
    if refused is not None:
        alerts.append(alert_of_refusal(fold.row.domain, judged).key)
    flow = judged.booked.event if judged.booked else decision.flow if decision else None
    return {
        "outcome": {
            "status": "refused" if refused else "applied",
            "reason": refused.reason if refused else "",
            "field": refused.field if refused else "",
        },
        "states": {} if refused else {f"{kind}/{id}": value for (kind, id), value in fold.changed.items()},
        "flow": flow_of(flow),
        "emits": [emit.topic for emit in decision.emits] if decision else [],
        "alerts": alerts,
    }


def flow_of(flow: FlowEvent | None) -> list[Any] | dict[str, Any] | None:
    """What is asked of the books: a posting's legs; of S4's flows what they say, without name and time."""
    if flow is None:
        return None
    if flow.kind == Kind.POST:
        return [
            [
                _side(leg.debit),
                _side(leg.credit),
                str(leg.amount),
                TransferCode(leg.code).name,
                leg.debit.asset,
            ]
            for leg in flow.legs
        ]
    said = to_dict(flow)
    for name in ("name", "time_ms", "legs"):
        del said[name]
    shown = {name: value for name, value in said.items() if value}
    for name in ("debtor", "creditor"):
        if name in shown:
            shown[name] = f"{AccountCode(shown[name][1]).name}:{shown[name][0]}"
    return shown


def _side(ref: AccountRef) -> str:
    return ":".join((AccountCode(ref.code).name, ref.owner, *([ref.subject] if ref.subject else [])))


@cache
def _payload_form(topic: str, payload: str) -> dict[str, Any]:
    """The form of a type's record, named types in full wherever they are used."""
    form = by_topic()[topic].resolution
    field = next(one for one in form["fields"] if one["name"] == payload)
    return _whole(next(branch for branch in field["type"] if branch != "null"), names_of(form))


def _whole(form: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(form, list):
        return [_whole(branch, names) for branch in form]
    form = names.get(form, form) if isinstance(form, str) else form
    if not isinstance(form, dict):
        return form
    if form["type"] == "array":
        return {**form, "items": _whole(form["items"], names)}
    if form["type"] == "record":
        fields = [{**field, "type": _whole(field["type"], names)} for field in form["fields"]]
        return {**form, "fields": fields}
    return form


def _filled(form: Mapping[str, Any], said: Mapping[str, Any], path: str) -> dict[str, Any]:
    names = [field["name"] for field in form["fields"]]
    wrong = sorted(set(said) - set(names))
    if wrong:
        raise ValueError(f"{path} has no {', '.join(wrong)}; it has {', '.join(names)}")
    full = {}
    for field in form["fields"]:
        at = f"{path}.{field['name']}"
        if field["name"] in said:
            full[field["name"]] = _value(field["type"], said[field["name"]], at)
        elif "default" in field:
            full[field["name"]] = field["default"]
        else:
            raise ValueError(f"{at} is missing")
    return full


def _value(form: Any, said: Any, path: str) -> Any:
    """A value as Avro has it: ISO times become ms."""
    if isinstance(form, list):
        if said is None:
            return None
        form = next(branch for branch in form if branch != "null")
    if isinstance(form, dict) and form.get("logicalType") == "timestamp-millis" and isinstance(said, str):
        return at_ms(said)
    if isinstance(form, dict) and form["type"] == "array":
        return [_value(form["items"], one, path) for one in said]
    if isinstance(form, dict) and form["type"] == "record":
        return _filled(form, said, path)
    return said
