"""Payment schedules and their collection, by event time (seeds/S3-token-ledger.txt).

An instalment is scheduled, then due, late, noticed, defaulted: PAYMENT_DUE → PAYMENT_LATE → COLLECTION_NOTICE_SENT →
DEFAULT_RECORDED, each only after the one before it and once its time has come; a payment that covers it ends that.
Come it has by the earlier of the event's own time and the intake's clock: nobody is late or in default before he is.
The clock tells each step when its time has come. A schedule without `notice_days` or `default_days` leaves those
steps to a service.

A schedule that names no reference is how the account's CREDIT debt is to be paid: what pays its instalments ends as
much of the debt. One with a reference (a purchase order, an invoice) is an obligation of its own, beside that debt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pipeline.domain.applications.event import AppEvent, Change, Decision, Refusal, Value, View, one
from pipeline.domain.tokens import accounts, money

DAY_MS: Final = 86_400_000
INSTALMENTS_MAX: Final = 120
DAYS_MAX: Final = 3650
PAID: Final = "paid"
STEPS: Final = {
    "PAYMENT_DUE": ("scheduled", "due"),
    "PAYMENT_LATE": ("due", "late"),
    "COLLECTION_NOTICE_SENT": ("late", "noticed"),
    "DEFAULT_RECORDED": ("noticed", "defaulted"),
}
"""Event type → the status that an instalment must have, and the one that it gets."""
_NEXT: Final = {before: name for name, (before, _) in STEPS.items()}


def check_schedule_created(event: AppEvent) -> None:
    """The instalments: amounts above 0, times that rise."""
    data = event.data
    accounts.check_id(data["schedule_id"], "data.schedule_id")
    if not 0 < len(data["instalments"]) <= INSTALMENTS_MAX:
        raise Refusal(
            "bad_instalments", "data.instalments", f"a schedule has 1 to {INSTALMENTS_MAX} instalments"
        )
    before = event.at_ms
    for place, part in enumerate(data["instalments"]):
        money.positive(part["amount"], f"data.instalments.{place}.amount")
        if part["due_at"] <= before:
            raise Refusal(
                "bad_time", f"data.instalments.{place}.due_at", "each is due after what is before it"
            )
        before = part["due_at"]
    for field in ("grace_days", "notice_days", "default_days"):
        if data[field] is not None and not 0 <= data[field] <= DAYS_MAX:
            raise Refusal("bad_days", f"data.{field}", f"{data[field]} is not 0 to {DAYS_MAX} days")


def schedule_created(event: AppEvent, view: View) -> Decision:
    """What the account has to pay, and when."""
    accounts.known(view, event.key)
    data, id = event.data, event.data["schedule_id"]
    if view.get("schedule", id) is not None:
        raise Refusal("already_there", "data.schedule_id", f"schedule {id} is there already")
    instalments = [
        {
            "number": number, "due_ms": part["due_at"], "amount": money.text(money.positive(part["amount"])),
            "paid": "0", "status": "scheduled", "since_ms": event.at_ms,
        }
        for number, part in enumerate(data["instalments"], 1)
    ]  # fmt: skip
    value = {
        "account_id": event.key, "status": "active", "instalments": instalments, "grace_days": data["grace_days"],
        "notice_days": data["notice_days"], "default_days": data["default_days"],
        "reference_type": data["reference_type"], "reference_id": data["reference_id"],
        "created_ms": event.at_ms, "updated_ms": event.at_ms,
    }  # fmt: skip
    credit = accounts.credit_of(view, event.key)
    held = accounts.credit_change(event, credit, schedules=[*credit["schedules"], id])
    return Decision([Change("schedule", id, with_due(id, value, None)), held])


def schedule_of(event: AppEvent, view: View) -> Value:
    """The schedule that the event names, if it is the account's. Raises Refusal."""
    id = event.data["schedule_id"]
    found = one(view, "schedule", id, "data.schedule_id")
    if found["account_id"] != event.key:
        raise Refusal("not_owner", "data.schedule_id", f"schedule {id} is another account's")
    return found


def step(event: AppEvent, view: View) -> Decision:
    """The next step of an instalment's collection."""
    schedule, id = schedule_of(event, view), event.data["schedule_id"]
    part = _instalment(schedule, event.data["instalment"])
    before, after = STEPS[event.type]
    if part["status"] != before:
        raise Refusal(
            "illegal_transition", "data.instalment",
            f"instalment {part['number']} of {id} is {part['status']}, not {before}",
        )  # fmt: skip
    earliest = _earliest(schedule, part, event.source == "clock")
    if earliest is None or event.reached_ms < earliest:
        raise Refusal(
            "too_early", "at", f"instalment {part['number']} of {id} is not to be {after} at that time"
        )
    moved = {**part, "status": after, "since_ms": event.at_ms}
    changed = _with_parts(schedule, [moved], event)
    changes = [Change("schedule", id, with_due(id, changed, schedule.get("due")))]
    if after == "defaulted":
        credit = one(view, "credit", event.key, "account_id")
        defaulted = [*credit["defaulted"], place(id, part)]
        changes.append(accounts.credit_change(event, credit, defaulted=defaulted))
    return Decision(changes)


def pay(
    event: AppEvent, schedules: Mapping[str, Value], first: str | None, amount: int
) -> dict[str, tuple[int, Value]]:
    """By schedule, how much of an amount goes to it, and the schedule after that.

    Instalments that are not paid: those of the schedule `first`, then of all, by the time when they are due; at the
    same time in the order in which `schedules` has them.
    """
    open_ = [(id, part) for id, schedule in schedules.items() for part in schedule["instalments"]]
    open_.sort(key=lambda one: (one[0] != first, one[1]["due_ms"]))
    left, got, parts = amount, dict[str, int](), dict[str, list[Value]]()
    for id, part in open_:
        owed = money.units(part["amount"]) - money.units(part["paid"])
        now = min(owed, left)
        if now:
            parts.setdefault(id, []).append(_paid(part, now, now == owed, event))
            got[id] = got.get(id, 0) + now
            left -= now
    after = {id: _with_parts(schedules[id], new, event) for id, new in parts.items()}
    return {id: (got[id], with_due(id, value, schedules[id].get("due"))) for id, value in after.items()}


def of_credit(schedule: Value) -> bool:
    """Whether a schedule is how the CREDIT debt is to be paid."""
    return not schedule["reference_type"] and not schedule["reference_id"]


def place(id: str, part: Value) -> str:
    """Name of an instalment."""
    return f"{id}:{part['number']}"


def paid_places(id: str, schedule: Value) -> list[str]:
    """Names of a schedule's instalments that are paid."""
    return [place(id, part) for part in schedule["instalments"] if part["status"] == PAID]


def with_due(id: str, schedule: Value, told: Value | None) -> Value:
    """The schedule with its next step as `due`. `told` is the one before: no two steps have the same time."""
    bare = {name: of for name, of in schedule.items() if name != "due"}
    steps = sorted(_steps(schedule))
    if not steps:
        return bare
    at_ms, number, name = steps[0]
    said = {"schedule_id": id, "instalment": number}
    if told is not None and (told["type"], told["data"]) != (name, said):
        at_ms = max(at_ms, told["at_ms"] + 1)
    return {**bare, "due": {"at_ms": at_ms, "type": name, "key": schedule["account_id"], "data": said}}


def _steps(schedule: Value) -> Iterator[tuple[int, int, str]]:
    for part in schedule["instalments"]:
        at_ms = _earliest(schedule, part, by_clock=True)
        if at_ms is not None:
            yield at_ms, part["number"], _NEXT[part["status"]]


def _earliest(schedule: Value, part: Value, by_clock: bool) -> int | None:
    """When an instalment may take its next step; the clock waits the days that the schedule gives, None = never."""
    since, planned, status = int(part["since_ms"]), int(part["due_ms"]), part["status"]
    if status == "scheduled":
        return max(planned, since)
    if status == "due":
        return max(planned + int(schedule["grace_days"]) * DAY_MS, since)
    if status not in _NEXT:
        return None
    days = schedule["notice_days" if status == "late" else "default_days"]
    if not by_clock:
        return since
    return None if days is None else since + int(days) * DAY_MS


def _instalment(schedule: Value, number: int) -> Value:
    for part in schedule["instalments"]:
        if part["number"] == number:
            found: Value = part
            return found
    raise Refusal("unknown_instalment", "data.instalment", f"the schedule has no instalment {number}")


def _paid(part: Value, now: int, whole: bool, event: AppEvent) -> Value:
    paid = {**part, "paid": money.text(money.units(part["paid"]) + now)}
    return {**paid, "status": PAID, "since_ms": event.at_ms} if whole else paid


def _with_parts(schedule: Value, parts: Sequence[Value], event: AppEvent) -> Value:
    """The schedule with these instalments in place of those of their numbers."""
    new = {part["number"]: part for part in parts}
    instalments = [new.get(part["number"], part) for part in schedule["instalments"]]
    statuses = {part["status"] for part in instalments}
    status = PAID if statuses == {PAID} else "defaulted" if "defaulted" in statuses else "active"
    return {**schedule, "instalments": instalments, "status": status, "updated_ms": event.at_ms}
