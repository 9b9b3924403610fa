"""Lag, judged from looks: every state, and what turns one into another."""

from dataclasses import replace

import pytest

from pipeline.domain.lag import Limits, Move, State, behind, follow, report, undecided, worst
from pipeline.domain.lag_look import Group, Look, Mark, Stop, Verdict

LEDGERS = ("xrpl.ledgers.v1", 0)
CHANGES = ("assets.changes.v1", 3)
CHAIN = "xrpl:0"
NOW = 1_800_000_000_000
LIMITS = Limits(stall_s=60.0, look_s=5.0)


def mark(block: int) -> Mark:
    """A block of a chain that closes one every four seconds."""
    return Mark(CHAIN, block, NOW - 4_000_000 + 4000 * block)


def look(
    at: float, committed: int | None = 10, end: int = 10, *, members: int | None = 1, role="books", **more
) -> Look:
    """Books that have applied the blocks before offset `committed`; offset n holds block n."""
    group = Group(
        role, f"tidebook-{role}", (LEDGERS,), {} if committed is None else {LEDGERS: committed}, members
    )
    key = (group.group, LEDGERS)
    late = end > (committed or 0)
    seen = Look(
        at=at,
        now=NOW + int(at * 1000),
        ends={LEDGERS: (0, end)},
        groups=(group,),
        last={LEDGERS: mark(end - 1)} if end else {},
        applied={key: mark(committed - 1)} if committed else {},
        following={key: mark(committed or 0)} if late else {},
        waiting_since={key: NOW - 1000} if late else {},
    )
    return replace(seen, **more)


def judged(*looks: Look, limits: Limits = LIMITS):
    moves: dict[tuple, Move] = {}
    for one in looks:
        moves = follow(moves, one)
    return report(looks[-1], moves, limits, looks[0].at)


def state(*looks: Look, limits: Limits = LIMITS) -> State:
    return judged(*looks, limits=limits).roles[0].state


def test_all_applied_is_ok_however_long_nothing_moves():
    told = judged(look(0), look(10_000))
    assert told.roles[0].state == State.OK and told.healthy and told.unhealthy == ()
    assert told.roles[0].partitions[0].unmoved_s == 0
    assert told.looked_s == 10_000


def test_behind_and_moving_is_catching_up():
    told = judged(look(0, 10, 100), look(2, 30, 100))
    assert told.roles[0].state == State.CATCHING_UP and told.healthy
    (part,) = told.roles[0].partitions
    assert (part.committed, part.end, part.behind) == (30, 100, 70)
    assert (part.behind_blocks, part.behind_s) == (70, 280.0)


def test_one_look_says_no_more_than_it_knows():
    assert state(look(0, 10, 100)) == State.CATCHING_UP


@pytest.mark.parametrize(("unmoved_s", "expected"), [(59.9, State.CATCHING_UP), (60.0, State.STALLED)])
def test_behind_and_not_moving_for_the_limit_is_stalled(unmoved_s, expected):
    told = judged(look(0, 10, 100), look(1, 30, 100), look(1 + unmoved_s, 30, 100))
    assert told.roles[0].state == expected
    assert told.healthy == (expected == State.CATCHING_UP)


def test_a_stall_is_named():
    (line,) = judged(look(0, 10, 100), look(61, 10, 100)).unhealthy
    assert line == "books stalled: xrpl.ledgers.v1-0@10: not moved for 61 s (limit 60 s)"


def test_moving_again_is_healthy_again():
    assert state(look(0, 10, 100), look(70, 10, 100), look(71, 11, 100)) == State.CATCHING_UP


def test_a_reset_to_the_beginning_is_a_move():
    assert state(look(0, 50, 100), look(70, 0, 100)) == State.CATCHING_UP


def test_time_without_work_is_no_stall():
    """Nothing to do for an hour, then one message: the clock begins when it came."""
    looks = [look(0), look(3600), look(3602, 10, 11), look(3661, 10, 11)]
    assert state(look(3602, 10, 11), look(3661, 10, 11)) == State.STALLED  # by how long the message waits
    assert state(*looks) == State.CATCHING_UP
    assert judged(*looks).roles[0].partitions[0].unmoved_s == 59
    assert state(*looks, look(3662, 11, 11)) == State.OK


def test_a_short_look_sees_a_stall_by_how_long_the_next_message_waits():
    old = {("tidebook-books", LEDGERS): NOW - 600_000}
    looks = [look(0, 10, 100, waiting_since=old), look(5, 10, 100, waiting_since=old)]
    told = judged(*looks)
    assert told.roles[0].state == State.STALLED
    assert "waits for 605 s" in told.roles[0].reason
    assert state(*looks[:1], look(4.9, 10, 100, waiting_since=old)) == State.CATCHING_UP
    assert state(look(0, 9, 100, waiting_since=old), *looks) == State.CATCHING_UP  # it was seen moving


def test_longer_looking_is_worth_it_only_where_something_waited_long():
    old = {("tidebook-books", LEDGERS): NOW - 600_000}
    late, fresh = look(0, 10, 100, waiting_since=old), look(0, 10, 100)
    assert undecided(late, follow({}, late), LIMITS)
    assert not undecided(fresh, follow({}, fresh), LIMITS)
    assert not undecided(look(0), follow({}, look(0)), LIMITS)
    moved = follow(follow({}, late), replace(late, at=1.0, groups=look(1, 11, 100).groups))
    assert not undecided(replace(late, at=1.0), moved, LIMITS)
    gone = look(0, 10, 100, members=0, waiting_since=old)
    assert not undecided(gone, follow({}, gone), LIMITS)


@pytest.mark.parametrize("committed", [None, 0, 10])
def test_messages_and_nobody_in_the_group_is_not_running(committed):
    told = judged(look(0, committed, 100, members=0))
    assert told.roles[0].state == State.NOT_RUNNING and not told.healthy
    assert "nobody is in consumer group tidebook-books" in told.unhealthy[0]


def test_nobody_in_the_group_is_no_matter_where_nothing_waits():
    assert state(look(0, members=0)) == State.OK
    assert state(look(0, None, 0, members=0)) == State.OK


def test_a_broker_that_tells_no_members_is_judged_by_moves():
    assert state(look(0, None, 100, members=None)) == State.CATCHING_UP
    assert state(look(0, None, 100, members=None), look(60, None, 100, members=None)) == State.STALLED


@pytest.mark.parametrize("members", [0, 1, None])
def test_books_that_refuse_to_go_on_have_said_so(members):
    stops = (Stop(CHAIN, 9, "old"), Stop(CHAIN, 10, "hole"), Stop("xrpl:1", 10, "other chain"))
    told = judged(look(0, 10, 100, members=members, stops=stops))
    assert told.roles[0].state == State.STOPPED and not told.healthy
    assert told.roles[0].reason == "it stops before block 10 of xrpl:0: hole"


def test_an_alert_of_another_block_or_role_is_no_stop():
    stops = (Stop(CHAIN, 10, "hole"),)
    assert state(look(0, 11, 100, stops=stops)) == State.CATCHING_UP
    assert state(look(0, 10, 100, stops=stops, role="history")) == State.CATCHING_UP
    assert state(look(0, 10, 10, stops=stops)) == State.OK


def test_a_role_is_as_bad_as_its_worst_partition():
    group = Group("assets", "tidebook-assets", (LEDGERS, CHANGES), {LEDGERS: 10, CHANGES: 5}, 1)
    first = Look(0, NOW, {LEDGERS: (0, 20), CHANGES: (0, 9)}, (group,))
    second = replace(first, at=70.0, groups=(replace(group, committed={LEDGERS: 19, CHANGES: 5}),))
    told = judged(first, second).roles[0]
    assert [part.state for part in told.partitions] == [State.CATCHING_UP, State.STALLED]
    assert told.state == State.STALLED and told.behind == 5
    assert "assets.changes.v1-3@5" in told.reason


def test_worst_of_states():
    assert worst([]) == State.OK
    assert worst([State.OK, State.STALLED, State.CATCHING_UP]) == State.STALLED
    assert worst(State) == State.STOPPED


def test_what_retention_took_away_is_not_behind():
    group = Group("history", "tidebook-history", (LEDGERS,), {}, 1)
    assert behind(group, LEDGERS, {LEDGERS: (40, 100)}) == 60
    assert behind(replace(group, committed={LEDGERS: 10}), LEDGERS, {LEDGERS: (40, 100)}) == 60
    assert behind(replace(group, committed={LEDGERS: 120}), LEDGERS, {LEDGERS: (40, 100)}) == 0


def test_nothing_applied_yet_is_behind_by_all_blocks():
    (part,) = judged(look(0, None, 100)).roles[0].partitions
    assert (part.behind, part.behind_blocks, part.behind_s) == (100, 100, 99 * 4.0)


def test_a_close_time_that_is_not_told_gives_no_seconds():
    seen = look(0, 10, 100, last={LEDGERS: Mark(CHAIN, 99, 0)})
    (part,) = judged(seen).roles[0].partitions
    assert (part.behind_blocks, part.behind_s) == (90, None)


# Chains


def chain(*looks: Look, limits: Limits = LIMITS):
    (found,) = judged(*looks, limits=limits).chains
    return found


def test_stages_are_measured_from_the_head_and_from_what_is_ingested_without_one():
    seen = look(0, 10, 100)
    told = chain(seen)
    assert told.state == State.UNKNOWN and judged(seen).healthy
    assert told.behind(told.stages["books"]) == (90, 360.0)
    told = chain(replace(seen, heads={CHAIN: mark(101)}))
    assert told.behind(told.stages["ingested"]) == (2, 8.0)
    assert told.behind(told.stages["books"]) == (92, 368.0)
    assert told.behind(None) == (None, None)
    assert told.state == State.CATCHING_UP


def test_an_ingest_at_the_head_or_beyond_a_lagging_node_is_ok():
    assert chain(look(0, heads={CHAIN: mark(9)})).state == State.OK
    assert chain(look(0, heads={CHAIN: mark(5)})).state == State.OK


def test_an_ingest_that_does_not_follow_the_head_stalls():
    first = look(0, 10, 10, heads={CHAIN: mark(9)})
    looks = [first] + [look(t, 10, 10, heads={CHAIN: mark(9 + t // 4)}) for t in (4, 32, 64)]
    told = chain(*looks)
    assert told.state == State.STALLED
    assert told.reason == "the head is 25, Kafka ends at 9, not moved for 60 s (limit 60 s)"
    assert chain(*looks[:-1]).state == State.CATCHING_UP
    assert chain(*looks, look(64, 25, 26, heads={CHAIN: mark(25)})).state == State.OK


def test_a_short_look_sees_an_ingest_that_stopped_long_ago():
    looks = [look(t, heads={CHAIN: mark(100)}) for t in (0, 5)]
    assert chain(*looks).state == State.STALLED
    assert undecided(looks[0], follow({}, looks[0]), LIMITS)
    assert chain(*[look(t, heads={CHAIN: mark(11)}) for t in (0, 5)]).state == State.CATCHING_UP


def test_a_head_and_nothing_in_kafka_is_not_running():
    told = judged(Look(0, NOW, {LEDGERS: (0, 0)}, heads={CHAIN: mark(7)}))
    assert told.chains[0].state == State.NOT_RUNNING and not told.healthy


def verdict(outcome: str) -> Verdict:
    return Verdict(CHAIN, outcome, 605, 606, 604, 2)


def test_an_open_gap_is_unhealthy_and_an_accepted_one_is_not():
    told = judged(look(0, verdicts=(verdict("missing"),)))
    assert told.chains[0].gap == (605, 606)
    assert told.unhealthy == ("xrpl:0: ingest stalled: no node has blocks 605-606",)
    for outcome in ("verified", "unproven", "skipped"):
        told = judged(look(0, verdicts=(verdict(outcome),)))
        assert told.chains[0].gap is None and told.healthy


def test_state_is_not_done_with_a_block_whose_changes_still_wait():
    group = Group("assets", "tidebook-assets", (LEDGERS, CHANGES), {LEDGERS: 100, CHANGES: 5}, 1)
    key = "tidebook-assets", LEDGERS
    seen = Look(
        0, NOW, {LEDGERS: (0, 100), CHANGES: (0, 9)}, (group,),
        last={LEDGERS: mark(99)}, applied={key: mark(99)}, following={("tidebook-assets", CHANGES): mark(42)},
    )  # fmt: skip
    told = chain(seen)
    assert told.stages["state"].block == 41
    assert chain(replace(seen, following={})).stages["state"] == mark(99)
    other = {("tidebook-assets", CHANGES): replace(mark(42), chain="xrpl:1")}
    assert chain(replace(seen, following=other)).stages["state"] == mark(99)


def test_a_missing_topic_is_unhealthy_and_a_silent_node_is_not():
    told = judged(look(0, broken=("topic quarantine.v1 is not on the broker",), problems=("node n: silent",)))
    assert told.unhealthy == ("topic quarantine.v1 is not on the broker",)
    assert judged(look(0, problems=("node n: silent",))).healthy
