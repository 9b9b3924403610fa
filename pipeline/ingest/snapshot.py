"""A ledger's whole state from nodes, proven before anything of it is published; docs/decisions/0007.

The header of a validated ledger first: its hash is recomputed. Then all pages of `ledger_data`, each pinned to
that ledger, in the order of the entries' indexes, to a spool on disk. The next page is asked for with the
index of the last entry that came, which any node takes (rippled's own marker is an index that no entry has,
and Clio refuses it), so each page may come from another node, and a fetch that was killed goes on. When the
state is whole its root and its coins are recomputed from the entries; only what equals the header is
published, as pages of xrpl.states.v1 that are cut by the entries alone: the same state, the same messages.

What this does not prove: that the network validated this header. That is the node's word (`validated: true`)
until the ledgers that follow name it as their parent, with their own verdicts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pipeline.domain.chain_link import BrokenChain, check_header
from pipeline.domain.decode.xrpl_errors import RecordedError
from pipeline.domain.decode.xrpl_shapes import RecordedLedger, is_hash, read_header, unwrap
from pipeline.domain.xrpl_encode import Unencodable, encode_entry
from pipeline.domain.xrpl_state_tree import StateTree
from pipeline.ingest.spool import RawEntry, Spool
from pipeline.ingest.state_pages import Header, Snapshot, SnapshotError, rows_of
from schemas.records import Check

PAGE_LIMIT: Final = 2048  # entries asked for at once: the most that a public node gives in binary

T = TypeVar("T")
Ask = Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]


class _Bad(Exception):
    """An answer that can't be: another node is asked."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a snapshot is, for whoever waits."""

    phase: str  # fetch, verify
    entries: int
    part: float  # 0-1, by the place of the last entry's index: indexes are hashes, so evenly spread


Tell = Callable[[Progress], None]


async def take_snapshot(
    ask: Ask,
    index: int,
    directory: Path,
    *,
    refuse: Callable[[str], None] | None = None,
    tell: Tell | None = None,
    attempts: int = 8,
    pause_s: float = 0.5,
) -> Snapshot:
    """The whole state of validated ledger `index`, proven; raises SnapshotError, and then nothing holds.

    `ask(request)` gives a node's answer (its `result`) and raises where it has none; `refuse(why)` is told
    when an answer can't be, so that another node is asked. Every request is tried `attempts` times, with
    pauses that double from `pause_s`. The spool stands in `directory` and is taken up again after a kill.
    """
    asking = _Asking(ask, refuse or (lambda why: None), attempts, pause_s)
    request = {"command": "ledger", "ledger_index": index}
    header = await asking.until(request, lambda answer: _header(answer, index), f"ledger {index}")
    spool = await asyncio.to_thread(Spool, directory / f"state-{index}.spool", header)
    try:
        await _fetch(asking, header, spool, tell or (lambda progress: None))
        return await asyncio.to_thread(_proven, header, spool, tell or (lambda progress: None))
    except SnapshotError as error:
        if error.reason in ("account_hash", "total_coins", "unreadable"):
            spool.discard()  # somewhere in it is a lie: nothing of it can be kept
        raise
    finally:
        spool.close()


@dataclass(frozen=True, slots=True)
class _Asking:
    """Asks until an answer holds."""

    ask: Ask
    refuse: Callable[[str], None]
    attempts: int
    pause_s: float

    async def until(self, request: dict[str, Any], read: Callable[[Mapping[str, Any]], T], what: str) -> T:
        """What `read` makes of an answer. Raises SnapshotError("no_answer") after all attempts."""
        said = "no attempt"
        for attempt in range(self.attempts):
            if attempt:
                await asyncio.sleep(min(30.0, self.pause_s * 2 ** (attempt - 1)))
            try:
                answer = await self.ask(dict(request))
            except Exception as error:  # whatever the pool says: another attempt, then it is told
                said = str(error) or type(error).__name__
                continue
            try:
                return await asyncio.to_thread(read, answer)
            except (_Bad, RecordedError, BrokenChain) as error:
                said = str(error)
                self.refuse(f"{what}: {said}")
        raise SnapshotError("no_answer", f"{what}: no node gives it: {said}")


def _header(answer: Mapping[str, Any], index: int) -> Header:
    body = unwrap(answer)
    fields = body.get("ledger")
    if body.get("validated") is not True or not isinstance(fields, Mapping):
        raise _Bad("not a validated ledger")
    header = read_header(RecordedLedger(fields, body, []))
    if header["ledger_index"] != index:
        raise _Bad(f"the answer is ledger {header['ledger_index']}")
    if header["total_coins"] is None or header["account_hash"] is None or header["ledger_hash"] is None:
        raise _Bad("its header is not told whole")
    if check_header(header, None)["outcome"] != "holds":
        raise _Bad("the hash of its header can't be recomputed")
    return header


async def _fetch(asking: _Asking, header: Header, spool: Spool, tell: Tell) -> None:
    index = header["ledger_index"]
    request = {"command": "ledger_data", "ledger_index": index, "binary": True, "limit": PAGE_LIMIT}
    while not spool.complete:
        marker = {"marker": spool.last.hex().upper()} if spool.last else {}
        after = spool.last
        page, last = await asking.until(
            {**request, **marker},
            lambda answer, after=after: _page(answer, header, after),  # type: ignore[misc]
            f"state of ledger {index} after {after.hex().upper() or 'its start'}",
        )
        await asyncio.to_thread(spool.append, page, last)
        tell(Progress("fetch", spool.entries, 1.0 if last else _part(spool.last)))


def _part(index: bytes) -> float:
    return int.from_bytes(index[:4]) / (1 << 32)


def _page(answer: Mapping[str, Any], header: Header, after: bytes) -> tuple[list[RawEntry], bool]:
    """(entries of one page, whether it is the last). Raises _Bad."""
    body = unwrap(answer)
    told_index, told_hash = body.get("ledger_index"), body.get("ledger_hash")
    if body.get("validated") is False or str(told_index) != str(header["ledger_index"]):
        raise _Bad(f"the page is of ledger {told_index}, or not validated")
    if told_hash is not None and str(told_hash).upper() != str(header["ledger_hash"]).upper():
        raise _Bad(f"the page is of a ledger with hash {told_hash}")
    state, last = body.get("state"), body.get("marker") is None
    if not isinstance(state, list) or not (state or last):
        raise _Bad("the page holds nothing, but there is more")
    page = []
    for recorded in state:
        entry = _raw(recorded)
        if entry.key <= after:
            raise _Bad(f"entry {entry.key.hex().upper()} is out of order")
        after = entry.key
        page.append(entry)
    return page, last


def _raw(recorded: Any) -> RawEntry:
    """One entry of a page in canonical bytes; JSON is made binary again."""
    if not isinstance(recorded, Mapping) or not is_hash(recorded.get("index")):
        raise _Bad("an entry has no index")
    index, data = recorded["index"], recorded.get("data")
    try:
        raw = bytes.fromhex(data) if isinstance(data, str) else encode_entry(recorded)
    except (Unencodable, ValueError) as error:
        raise _Bad(f"entry {index}: {error}") from None
    return RawEntry(bytes.fromhex(index), raw)


def _proven(header: Header, spool: Spool, tell: Tell) -> Snapshot:
    """Read the whole state once. Raises SnapshotError where it is not what the header says."""
    tree, native, unknown, locks = StateTree(), 0, Counter[str](), False
    for page in spool.pages():
        for entry in page:
            tree.add(*entry)
        rows = rows_of(page)
        native += rows.native
        unknown += rows.unknown
        locks = locks or rows.locks_on_lines
        tell(Progress("verify", tree.count, _part(tree.last)))
    root, name = tree.root(), f"ledger {header['ledger_index']}"
    if root != header["account_hash"]:
        raise SnapshotError(
            "account_hash",
            f"the state of {name} has the root {root}, its header says {header['account_hash']}",
        )
    unseen = header["total_coins"] - native
    if unseen < 0 or (unseen and not unknown):
        raise SnapshotError(
            "total_coins",
            f"the state of {name} holds {native} drops, its header says {header['total_coins']}",
        )
    coins: Check = {"name": "state_coins", "outcome": "holds", "detail": ""}
    if unseen:
        types = ", ".join(sorted(unknown))
        detail = f"{unseen} drops are in none of the entry types known here; there are unknown ones: {types}"
        coins = {"name": "state_coins", "outcome": "not_applicable", "detail": detail}
    checks: list[Check] = [
        {"name": "header_hash", "outcome": "holds", "detail": ""},
        {"name": "account_hash", "outcome": "holds", "detail": ""},
        coins,
    ]
    return Snapshot(header, checks, tree.count, unseen, dict(unknown), locks, spool)
