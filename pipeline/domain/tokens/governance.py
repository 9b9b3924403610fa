"""Circles, roles and who holds them: S3's governance layer, after Hats: a tree in which the parent grants.

Each association has one root circle; every other one has a parent in the same association. The roles of a circle are
granted and revoked by its parent, those of the root by the root itself. Whoever acts for a circle is an economic
account that holds a role there at the event's time and is not blocked; a service may act for any. An assignment with an
end is ended by the clock, so that nobody acts for it later by giving an earlier time. State `circle_member` has the
roles that an account holds in a circle, with the end of each; `role_assignment` has its beginning. A blocked account
gets no role, what it holds may be revoked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pipeline.domain.applications.event import DUE, AppEvent, Change, Decision, Refusal, Value, View, one
from pipeline.domain.tokens import accounts
from pipeline.domain.tokens.operational_terms import KEY, checked, named, new, same_association

DEPTH_MAX: Final = 64
REVIEWS_MAX: Final = 20
SEATS_MAX: Final = 10_000
CLOCK: Final = "clock"  # source of an event that an end has told
ACTING: Final = "acting_account_id"


def circle_created(event: AppEvent, view: View) -> Decision:
    """State circle {association_id, parent_circle_id, title, reviews_required}; a root: state circle_root too."""
    data = event.data
    association = data["association_id"]
    named(event, view, "association", "association_id")
    new(view, "circle", event.key)
    circle = {
        name: data[name] for name in ("association_id", "parent_circle_id", "title", "reviews_required")
    }
    changes = [Change("circle", event.key, circle)]
    if data["parent_circle_id"] is None:
        new(view, "circle_root", association, "data.parent_circle_id")
        if event.user_id:
            raise Refusal("outside_scope", "user_id", "the root circle is made by a service")
        return Decision([*changes, Change("circle_root", association, {"circle_id": event.key})])
    parent = named(event, view, "circle", "parent_circle_id")
    same_association(circle, parent, "data.parent_circle_id")
    for _ in ancestors(view, data["parent_circle_id"]):
        pass  # not too deep
    acting(event, view, data["parent_circle_id"])
    return Decision(changes)


def circle_moved(event: AppEvent, view: View) -> Decision:
    """The circle gets another parent, which its present parent decides; the root stays, and there are no cycles."""
    circle, to = one(view, "circle", event.key, KEY), event.data["parent_circle_id"]
    field = "data.parent_circle_id"
    parent = circle["parent_circle_id"]
    if parent is None:
        raise Refusal("illegal_transition", KEY, f"{event.key} is the root of its association")
    same_association(circle, named(event, view, "circle", "parent_circle_id"), field)
    if to == parent:
        raise Refusal("illegal_transition", field, f"{to} is the parent already")
    if event.key in ancestors(view, to):
        raise Refusal("cycle", field, f"{to} is {event.key} itself or below it")
    acting(event, view, parent)
    return Decision([Change("circle", event.key, {**circle, "parent_circle_id": to})])


def role_created(event: AppEvent, view: View) -> Decision:
    """State role {circle_id, association_id, title, seats, holders {account: end in ms or null}}."""
    data = event.data
    circle = named(event, view, "circle", "circle_id")
    new(view, "role", event.key)
    acting(event, view, data["circle_id"])
    role = {
        "circle_id": data["circle_id"],
        "association_id": circle["association_id"],
        "title": data["title"],
        "seats": data["seats"],
        "holders": {},
    }
    return Decision([Change("role", event.key, role)])


def role_granted(event: AppEvent, view: View) -> Decision:
    """State role_assignment <role>/<account> {role_id, circle_id, account_id, status, granted_by, …} by the parent."""
    data, account_id = event.data, event.key
    role = named(event, view, "role", "role_id")
    circle_id = role["circle_id"]
    _parent_acts(event, view, circle_id, "granted_by")
    account = accounts.usable(view, account_id)
    if account["association_id"] is not None:
        same_association(role, account, KEY)
    if data["expires_at"] is not None and data["expires_at"] <= event.at_ms:
        raise Refusal("expired", "data.expires_at", "the assignment would have ended before it begins")
    holders = current(role["holders"], event.at_ms)
    if account_id in holders:
        raise Refusal("illegal_transition", KEY, f"account {account_id} holds role {data['role_id']} already")
    if role["seats"] is not None and len(holders) >= role["seats"]:
        raise Refusal(
            "no_seat", "data.role_id", f"all {role['seats']} seats of role {data['role_id']} are taken"
        )
    ends = {account_id: data["expires_at"]}
    assignment = {
        "role_id": data["role_id"],
        "circle_id": circle_id,
        "association_id": role["association_id"],
        "account_id": account_id,
        "status": "granted",
        "granted_by": data["granted_by"],
        "granted_ms": event.at_ms,
        "expires_ms": data["expires_at"],
        "revoked_by": None,
        "revoked_ms": None,
    }
    if data["expires_at"] is not None:
        said = {"role_id": data["role_id"], "revoked_by": data["granted_by"]}
        assignment[DUE] = {
            "at_ms": data["expires_at"], "type": "ROLE_REVOKED", "key": account_id, "data": said,
        }  # fmt: skip
    before = view.get("circle_member", f"{circle_id}/{account_id}") or {"roles": {}}
    roles = {**current(before["roles"], event.at_ms), data["role_id"]: data["expires_at"]}
    return Decision(
        [
            Change("role", data["role_id"], {**role, "holders": {**holders, **ends}}),
            Change("role_assignment", f"{data['role_id']}/{account_id}", assignment),
            _member(circle_id, account_id, roles),
        ]
    )


def role_revoked(event: AppEvent, view: View) -> Decision:
    """The parent takes the role back, or its time is over: then the clock ends it, whoever the parent is now."""
    data, account_id = event.data, event.key
    role = named(event, view, "role", "role_id")
    circle_id = role["circle_id"]
    by_clock = event.source == CLOCK
    if not by_clock:
        _parent_acts(event, view, circle_id, "revoked_by")
    id = f"{data['role_id']}/{account_id}"
    assignment = one(view, "role_assignment", id, "data.role_id")
    if assignment["status"] != "granted":
        raise Refusal("illegal_transition", "data.role_id", f"role assignment {id} is {assignment['status']}")
    end = assignment["expires_ms"]
    if by_clock and (end is None or event.at_ms < end):
        raise Refusal("not_expired", "at", f"role assignment {id} has not come to its end")
    member = view.get("circle_member", f"{circle_id}/{account_id}") or {"roles": {}}
    roles = {role_id: end for role_id, end in member["roles"].items() if role_id != data["role_id"]}
    holders = {holder: end for holder, end in role["holders"].items() if holder != account_id}
    ended = {name: value for name, value in assignment.items() if name != DUE}
    ended |= {"status": "expired" if by_clock else "revoked", "revoked_ms": event.at_ms}
    ended["revoked_by"] = None if by_clock else data["revoked_by"]
    return Decision(
        [
            Change("role", data["role_id"], {**role, "holders": holders}),
            Change("role_assignment", id, ended),
            _member(circle_id, account_id, roles),
        ]
    )


def ancestors(view: View, circle_id: str) -> Iterator[str]:
    """The circle, its parent, and so on up to the root. Raises Refusal (too_deep)."""
    at: str | None = circle_id
    for _ in range(DEPTH_MAX):
        if at is None:
            return
        yield at
        at = one(view, "circle", at, "data.parent_circle_id")["parent_circle_id"]
    raise Refusal(
        "too_deep", "data.parent_circle_id", f"circles stand in each other {DEPTH_MAX} deep at most"
    )


def acting(event: AppEvent, view: View, circle_id: str) -> None:
    """Whether who sends the event may act for the circle. Raises Refusal."""
    account_id = event.data[ACTING]
    if account_id is not None:
        in_circle(event, view, circle_id, ACTING)
    elif event.user_id:
        raise Refusal(
            "missing", f"data.{ACTING}", f"a user acts by an account that holds a role in {circle_id}"
        )


def in_circle(event: AppEvent, view: View, circle_id: str, field: str) -> Value:
    """The account that a field names: who acts owns it, and it holds a role in the circle then. Raises Refusal."""
    account = own(event, view, field)
    account_id = event.data[field]
    member = view.get("circle_member", f"{circle_id}/{account_id}") or {"roles": {}}
    for role_id in current(member["roles"], event.at_ms):
        held = one(view, "role_assignment", f"{role_id}/{account_id}", f"data.{field}")
        if held["granted_ms"] <= event.at_ms:
            return account
    raise Refusal(
        "not_in_circle",
        f"data.{field}",
        f"account {account_id} holds no role in circle {circle_id} at that time",
    )


def own(event: AppEvent, view: View, field: str) -> Value:
    """The account that a field names, not blocked; where a user acts, it is the user's. Raises Refusal."""
    account = accounts.usable(view, event.data[field], f"data.{field}")
    if event.user_id and event.user_id != account["owner_id"]:
        raise Refusal("not_owner", "user_id", f"{event.user_id} does not own account {event.data[field]}")
    return account


def current(ends: Value, at_ms: int) -> dict[str, int | None]:
    """Of what has an end each, in ms or none: what has not ended by then."""
    return {id: end for id, end in ends.items() if end is None or end > at_ms}


def _parent_acts(event: AppEvent, view: View, circle_id: str, field: str) -> None:
    """Whether the circle that a field names is the parent, and who sends the event may act for it."""
    told, circle = event.data[field], one(view, "circle", circle_id, "data.role_id")
    parent = circle["parent_circle_id"] or circle_id
    if told != parent:
        raise Refusal("not_the_parent", f"data.{field}", f"the roles of {circle_id} are granted by {parent}")
    acting(event, view, parent)


def _member(circle_id: str, account_id: str, roles: dict[str, Any]) -> Change:
    value = {"circle_id": circle_id, "account_id": account_id, "roles": roles} if roles else None
    return Change("circle_member", f"{circle_id}/{account_id}", value)


def _reviews(event: AppEvent) -> None:
    if not 1 <= event.data["reviews_required"] <= REVIEWS_MAX:
        raise Refusal("out_of_range", "data.reviews_required", f"must be 1 to {REVIEWS_MAX}")


def _seats(event: AppEvent) -> None:
    if event.data["seats"] is not None and not 1 <= event.data["seats"] <= SEATS_MAX:
        raise Refusal("out_of_range", "data.seats", f"must be 1 to {SEATS_MAX}, or null")


check_circle = checked(codes=("association_id", "parent_circle_id", ACTING), titles=("title",), also=_reviews)
check_moved = checked(codes=("parent_circle_id", ACTING))
check_role = checked(codes=("circle_id", ACTING), titles=("title",), also=_seats)
check_granted = checked(codes=("role_id", "granted_by", ACTING))
check_revoked = checked(codes=("role_id", "revoked_by", ACTING))
