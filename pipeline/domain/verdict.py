"""Verdicts: what was checked of each block, and up to where a chain is verified. Pure.

A block is *verified* if every check that was asked for holds. A check that cannot be made says so, and
the block is *unproven* (the first block of a run has no parent to be checked against: that alone does
not count). A block that contradicts itself is never published and gets no verdict; it goes to
quarantine. Where validators are named, a block also needs their quorum; a later block that has it proves
those before it, for its hash covers theirs: they are told in one verdict over the range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pipeline.domain.findings import deterministic_id
from schemas.records import Check, ValidatorVote, Verdict

Level = Literal["header", "full"]

VALIDATIONS: Final = "validations"
ANCESTORS: Final = "ancestors"

NOT_NEEDED: Final = frozenset({"parent_hash", "total_coins", "witnesses", ANCESTORS})
"""Checks that a block may be verified without: at a run's start, or where no second node has spoken."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What the trusted validators said of a block."""

    validators: list[ValidatorVote]
    quorum: int
    signed: int

    @property
    def reached(self) -> bool:
        return self.signed >= self.quorum

    def check(self) -> Check:
        """The tally as a check."""
        if self.reached:
            return {"name": VALIDATIONS, "outcome": "holds", "detail": ""}
        bad = [f"{vote['key']} {vote['vote']}" for vote in self.validators if vote["vote"] != "signed"]
        detail = f"{self.signed} of {self.quorum} needed signatures; {', '.join(bad)}"
        return {"name": VALIDATIONS, "outcome": "broken", "detail": detail}


NO_VALIDATORS: Final = Tally([], 0, 0)


def failing(checks: Sequence[Check]) -> list[Check]:
    """The checks for which a block is not verified."""
    return [
        check
        for check in checks
        if check["outcome"] == "broken"
        or (check["outcome"] == "not_applicable" and check["name"] not in NOT_NEEDED)
    ]


@dataclass(slots=True)
class Watermark:
    """Up to where one chain is verified, block by block, in order. One per ingest.

    `pending` is the first block that lacks nothing but the quorum; a later block with the quorum proves
    all from there. `stuck`: there is a block that nothing later can prove; the verdicts from there on say so in
    the check `ancestors`, for the last of them is all that a restart knows.
    """

    chain: str
    chain_number: int
    level: Level
    run: int = -1
    verified_up_to: int = -1
    gaps: int = 0
    pending: int | None = None
    stuck: bool = False

    @classmethod
    def resumed(cls, last: Mapping[str, Any], level: Level) -> Watermark:
        """From the last verdict of the chain that was published."""
        mark = cls(
            last["chain"], last["chain_number"], level, last["run"], last["verified_up_to"], last["gaps"]
        )
        wrong = {check["name"] for check in failing(last["checks"])}
        told = {check["name"] for check in last["checks"]}
        mark.stuck = ANCESTORS in told or bool(wrong - {VALIDATIONS})
        if wrong == {VALIDATIONS} and not mark.stuck:
            mark.pending = max(mark.run, mark.verified_up_to + 1)
        return mark

    def block(
        self, block: Mapping[str, Any], source: str, checks: Sequence[Check], tally: Tally = NO_VALIDATORS
    ) -> list[Verdict]:
        """The verdicts that a published block brings: first those proven by it, then its own."""
        index = block["ledger_index"]
        if block["run"] != self.run:
            self.run, self.verified_up_to, self.pending, self.stuck = block["run"], -1, None, False
        made = [*checks, *([tally.check()] if tally.quorum else []), *self._ancestors()]
        wrong = failing(made)
        told: list[Verdict] = []
        if not wrong and self.pending is not None and not self.stuck and tally.quorum:
            told.append(self._proven_by(block, source, tally))
            self.pending = None
        if not wrong and not self.stuck and (index == self.run or self.verified_up_to == index - 1):
            self.verified_up_to = index
        elif wrong:
            self._unproven(index, wrong)
        outcome: Literal["verified", "unproven"] = "unproven" if wrong else "verified"
        reason = "; ".join(f"{check['name']}: {check['detail']}" for check in wrong)
        told.append(self._verdict(
            index, index, block["ledger_hash"], block["close_time"], outcome, source, made, tally, reason
        ))  # fmt: skip
        return told

    def _ancestors(self) -> list[Check]:
        if not self.stuck:
            return []
        detail = f"a block after {self.verified_up_to} is unproven, and no later one can prove it"
        return [{"name": ANCESTORS, "outcome": "not_applicable", "detail": detail}]

    def _waiting(self) -> list[Check]:
        """What a restart must know of the blocks before a gap."""
        if self.stuck or self.pending is None:
            return self._ancestors()
        detail = f"blocks from {self.pending} on wait for a quorum"
        return [{"name": VALIDATIONS, "outcome": "broken", "detail": detail}]

    def _unproven(self, index: int, wrong: Sequence[Check]) -> None:
        if any(check["name"] != VALIDATIONS for check in wrong):
            self.stuck = True
        elif self.pending is None:
            self.pending = index

    def _proven_by(self, block: Mapping[str, Any], source: str, tally: Tally) -> Verdict:
        assert self.pending is not None
        index = block["ledger_index"]
        checks: list[Check] = [{
            "name": VALIDATIONS, "outcome": "holds",
            "detail": f"ledger {index} has the quorum, and the hash chain leads back from it",
        }]  # fmt: skip
        self.verified_up_to = index - 1
        return self._verdict(
            self.pending,
            index - 1,
            block["parent_hash"],
            block["close_time"],
            "verified",
            source,
            checks,
            tally,
            "",
        )

    def gap(self, first: int, last: int, time: int, skipped: bool) -> Verdict:
        """The verdict of blocks that no node has; `skipped`: somebody accepted it, a new run follows."""
        self.gaps += skipped
        return self._verdict(
            first, last, None, time, "skipped" if skipped else "missing", "", self._waiting(), NO_VALIDATORS,
            f"no node has ledger {first}" if first == last else f"no node has ledgers {first}-{last}",
        )  # fmt: skip

    def _verdict(
        self, first: int, last: int, block_hash: str | None, time: int,
        outcome: Literal["verified", "unproven", "missing", "skipped"], source: str,
        checks: list[Check], tally: Tally, reason: str,
    ) -> Verdict:  # fmt: skip
        return {
            "id": deterministic_id(
                "verdict", self.chain, str(first), str(last), block_hash or "", outcome, self.level
            ),
            "chain": self.chain,
            "chain_number": self.chain_number,
            "run": self.run,
            "block": first,
            "last_block": last,
            "block_hash": block_hash,
            "time": time,
            "outcome": outcome,
            "level": self.level,
            "source": source,
            "checks": checks,
            "validators": tally.validators,
            "quorum": tally.quorum,
            "signed": tally.signed,
            "reason": reason,
            "verified_up_to": self.verified_up_to,
            "gaps": self.gaps,
        }
