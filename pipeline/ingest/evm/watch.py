"""Which contracts of a chain are watched, as the chain goes on. Pure: no IO, no clock.

The settings name contracts and factories; a factory's event names a contract that it made, from that block on. A
block that is dropped takes what it made with it. Every change is a record of evm.contracts.v1 that must be told
before the block is; an ingest that starts again folds these records (`restore`), drops what blocks above its last
told one made (`retract_above`: they will be found again), and has the same set. What was told of a contract, its
start block above all, stands: the books have begun there.

A block: `found_in` → `add` each → tell `record` of each → decode with `contracts_at(number)`: a token's first mint
comes before its factory's event, so the set must have grown before the block is decoded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from pipeline.domain.decode.evm_contracts import Contract, Contracts
from pipeline.domain.decode.evm_transfers import ZERO_ADDRESS
from pipeline.domain.decode.evm_values import ADDRESS_DIGITS, HASH_DIGITS, hex_text, needed, objects
from pipeline.domain.decode.evm_words import Undecodable
from pipeline.domain.evm_logs import LogFilter, bloom_may_hold
from pipeline.ingest.evm.config import ChainConfig, Factory
from schemas.records import EvmContract

Coverage = Literal["complete", "opened", "partial", "unknown"]
Fields = Mapping[str, Any]
TOPIC: Final = "evm.contracts.v1"


@dataclass(frozen=True)
class Known:
    """One contract and how it stands; `sequence` rises with every change that is to be told."""

    address: str
    declared: Contract = field(repr=False)
    start_block: int  # first block whose logs of it are read
    source: Literal["settings", "factory"] = "settings"
    factory: str | None = None
    event: str | None = None  # signature of the factory's event
    created: tuple[int, str] | None = None  # number and hash of the block that made it
    time: int = 0  # of that block, ms since 1970
    coverage: Coverage = "unknown"
    status: Literal["watched", "retracted"] = "watched"
    sequence: int = 0
    reliable: bool = True  # False: its balances were seen to change otherwise than its logs say

    @property
    def has_balances(self) -> bool:
        """Whether its logs move tokens, so that accounts may have held some before."""
        return bool(self.declared.standards)


@dataclass(frozen=True)
class Made:
    """A contract that a factory's event tells of."""

    address: str
    factory: Factory = field(repr=False)
    time: int  # of the block, ms since 1970


class Want(NamedTuple):
    """What a reader needs of a chain's blocks. `version` as `Watched.version` was."""

    addresses: frozenset[str]  # contracts and factories whose logs are read
    watched: frozenset[str]  # transactions from or to these are read
    everything: bool  # all transactions are read
    version: int

    @property
    def logs(self) -> LogFilter | None:
        """Filter of eth_getLogs; None: no logs are wanted."""
        return LogFilter(self.addresses) if self.addresses else None

    def leaves(self, before: Want, bloom: object) -> bool:
        """Whether a block that held nothing of what was wanted before holds nothing of this either, as its
        logsBloom proves. Raises Malformed."""
        if (self.watched, self.everything) != (before.watched, before.everything):
            return False
        more = self.addresses - before.addresses
        return not more or not bloom_may_hold(bloom, more, ())


class Watched:
    """The watched contracts of one chain. `version` rises whenever the set grows or shrinks.

    `first_sequence`: where the broker forgets, a number above all that were told before (e.g. ms since 1970).
    """

    def __init__(
        self, config: ChainConfig, records: Iterable[EvmContract | Fields] = (), first_sequence: int = 0
    ) -> None:
        self.config = config
        self.version = 0
        self.dropped: tuple[str, ...] = ()  # told once, no longer in the settings: not watched
        self._left: list[dict[str, Any]] = []
        self._marked: set[str] = set()  # addresses that are not reliable, for good
        self._first_sequence = first_sequence
        self._factories: dict[str, list[Factory]] = {}
        for factory in config.factories:
            self._factories.setdefault(factory.address, []).append(factory)
        self._own = {of.address: of for of in _factories_themselves(config)}  # watched for what they tell
        self._sequences: dict[str, int] = {}  # last one told, of each contract ever told
        self._named = {  # none begins before the chain is read, which a run may begin later than the settings say
            of.address: Known(
                of.address, of.declared, max(of.start_block, config.start_block), sequence=first_sequence
            )
            for of in config.contracts
        }
        self._known = dict(self._named)
        self._decoders: dict[int, Contracts] = {}  # by how many have started
        self._starts: list[int] = []
        self._want: Want | None = None
        self.restore(records)

    def restore(self, records: Iterable[EvmContract | Fields]) -> None:
        """Take over what the chain's topic holds, oldest first; the last record of a contract decides."""
        last: dict[str, Any] = {record["address"]: record for record in records}
        dropped = set(self.dropped)
        for address, record in last.items():
            self._sequences[address] = record["sequence"]
            if not record.get("reliable", True):
                self._marked.add(address)
            known = self._restored(address, record)
            if known is not None:
                self._known[address] = known
            elif record["status"] != "retracted":
                dropped.add(address)
                if record["status"] == "watched":
                    self._left.append({**record, "status": "dropped", "sequence": self._next(address)})
        self.dropped = tuple(sorted(dropped - self._known.keys()))
        self._changed()

    def _restored(self, address: str, record: Any) -> Known | None:
        """A contract as its record tells it; None: it is not watched."""
        named = self._named.get(address)
        if record["status"] == "retracted":
            return replace(named, sequence=self._next(address)) if named is not None else None
        factory = self._factory(record["factory"], record["event"])
        pattern = named.declared if named is not None else factory.made if factory is not None else None
        if pattern is None:
            return None
        made, back = record["source"] == "factory", record["status"] == "dropped"
        return Known(
            address, replace(pattern, address=address), record["start_block"], record["source"], record["factory"],
            record["event"], (record["created_block"], record["created_hash"]) if made else None, record["time"],
            "partial" if back else record["coverage"], "watched",  # what happened while it was left out is not told
            self._next(address) if back else record["sequence"], record.get("reliable", True),
        )  # fmt: skip

    def left(self) -> list[dict[str, Any]]:
        """Records that tell of contracts which the settings no longer have (status dropped); once."""
        records, self._left = self._left, []
        return records

    def _factory(self, address: str | None, signature: str | None) -> Factory | None:
        return next(
            (one for one in self._factories.get(address or "", ()) if one.signature == signature), None
        )

    def _next(self, address: str) -> int:
        return max(self._sequences.get(address, -1) + 1, self._first_sequence)

    # What there is

    def __iter__(self) -> Any:
        return iter(self._known.values())

    def __len__(self) -> int:
        return len(self._known)

    def find(self, address: str) -> Known | None:
        """The contract of an address (lower case)."""
        return self._known.get(address)

    def untold(self) -> tuple[Known, ...]:
        """Contracts that the topic does not tell as they stand: new ones of the settings, and what was added and
        not told yet."""
        return tuple(one for one in self if self._sequences.get(one.address, -1) < one.sequence)

    def want(self) -> Want:
        """What a reader needs now."""
        if self._want is None:
            addresses = frozenset(self._known) | self._own.keys()
            self._want = Want(addresses, self.config.watched, self.config.everything, self.version)
        return self._want

    def contracts_at(self, number: int) -> Contracts:
        """Declared contracts for decoding the block of this number: those whose books have begun."""
        started = bisect_right(self._starts, number)
        if started not in self._decoders:
            declared = {one.address: one.declared for one in self if one.start_block <= number}
            for one in self._own.values():
                if one.start_block <= number:
                    known = declared.get(one.address)
                    declared[one.address] = joined(known, one.declared) if known else one.declared
            self._decoders[started] = Contracts(declared.values(), others=self.reads_all)
        return self._decoders[started]

    @property
    def contracts(self) -> Contracts:
        """All of them, whatever their start block."""
        return self.contracts_at(self._starts[-1] if self._starts else 0)

    @property
    def reads_all(self) -> bool:
        """Whether the transfers of contracts that nobody declared are told too."""
        return self.config.everything and not (self.config.contracts or self.config.factories)

    def _changed(self, grown: bool = True) -> None:
        if grown:
            self.version += 1
            self._want = None
        self._decoders.clear()
        self._starts = sorted(
            [one.start_block for one in self] + [one.start_block for one in self._own.values()]
        )

    # What changes it

    def found_in(self, block: Fields, receipts: Sequence[Fields]) -> list[Made]:
        """Contracts that factories' events of a block tell of and that no earlier block made, in the order told.

        `block`: as the node gave it; `receipts`: all of its, or those of the factories' transactions. Asked again,
        also after the block was lost before it was told, it finds the same again: a block that is read next
        decides what was made there.
        """
        found: dict[str, Made] = {}
        if not self._factories:
            return []
        number, time = needed(block, "number", "the block"), 1000 * needed(block, "timestamp", "the block")
        for receipt in objects(receipts, "receipts"):
            for log in objects(receipt.get("logs"), "logs"):
                contract = hex_text(log.get("address"), "address of a log", ADDRESS_DIGITS)
                for factory in self._factories.get(contract, ()):
                    address = _made_address(factory, log) if factory.start_block <= number else None
                    if address is not None and address not in found and not self._older(address, number):
                        found[address] = Made(address, factory, time)
        return list(found.values())

    def _older(self, address: str, number: int) -> bool:
        """Whether a contract was known before the block of this number."""
        known = self._known.get(address)
        return known is not None and (known.created is None or known.created[0] < number)

    def add(self, made: Made, number: int, block_hash: str) -> Known:
        """Watch what a block made, from that block on; what is to be told of it."""
        address, factory = made.address, made.factory
        if self._older(address, number):
            raise ValueError(f"contract {address} is watched already")
        return self._keep(Known(
            address, replace(factory.made, address=address), number, "factory", factory.address, factory.signature,
            (number, _lower(block_hash)), made.time, "complete", "watched", self._next(address),
            address not in self._marked,
        ))  # fmt: skip

    def cover(self, address: str, coverage: Coverage) -> Known:
        """Note how much of a contract's life is known; what is to be told of it."""
        known = self._known[address]
        return known if known.coverage == coverage else self._amend(known, coverage=coverage)

    def distrust(self, address: str) -> Known | None:
        """Note that a contract's balances do not follow from its logs; what is to be told of it, at once: before
        anything else is. None: it is noted already, or the contract is not watched any more."""
        known = self._known.get(address)
        if known is None or not known.reliable:
            return None
        self._marked.add(address)
        return self._amend(known, reliable=False)

    def _amend(self, known: Known, **changed: Any) -> Known:
        told = self._sequences.get(known.address, -1) >= known.sequence
        sequence = self._next(known.address) if told else known.sequence
        return self._keep(replace(known, sequence=sequence, **changed))

    def start_no_earlier(self, number: int) -> tuple[Known, ...]:
        """Contracts of the settings that the topic did not know begin at `number`, the next block to be told, at
        the earliest: those before are told without them. What was moved."""
        moved = [
            replace(one, start_block=number, coverage="unknown")
            for one in self.untold()
            if one.source == "settings" and one.start_block < number and one.coverage != "partial"
        ]
        return tuple(self._keep(one) for one in moved)

    def retract(self, number: int, block_hash: str) -> tuple[Known, ...]:
        """Forget what a dropped block made; what is to be told of it (status retracted)."""
        return self._retract(one for one in self if one.created == (number, _lower(block_hash)))

    def retract_above(self, number: int) -> tuple[Known, ...]:
        """After a restart: forget what blocks above the last told one made, as `retract`. They were told of and
        their blocks were not; if these stand, they are found again."""
        return self._retract(one for one in self if one.created is not None and one.created[0] > number)

    def _retract(self, lost: Iterable[Known]) -> tuple[Known, ...]:
        told = []
        for one in list(lost):
            last = max(self._next(one.address), one.sequence + 1)
            told.append(replace(one, status="retracted", sequence=last))
            del self._known[one.address]
            if one.address in self._named:
                self._known[one.address] = replace(self._named[one.address], sequence=last + 1)
            self._sequences[one.address] = last
        if told:
            self._changed()
        return tuple(told)

    def _keep(self, known: Known) -> Known:
        grown = known.address not in self._known
        self._known[known.address] = known
        self._changed(grown)
        return known

    # What is told

    def record(self, known: Known, chain_number: int) -> EvmContract:
        """The record of evm.contracts.v1 that tells how a contract stands; from then on it counts as told."""
        self._sequences[known.address] = max(self._sequences.get(known.address, -1), known.sequence)
        created = known.created or (None, None)
        return {
            "contract": f"{self.config.name}/{known.address}",
            "chain": self.config.name,
            "chain_number": chain_number,
            "address": known.address,
            "kind": known.declared.kind,
            "source": known.source,
            "factory": known.factory,
            "event": known.event,
            "start_block": known.start_block,
            "coverage": known.coverage,
            "reliable": known.reliable,
            "created_block": created[0],
            "created_hash": created[1],
            "time": known.time,
            "status": known.status,
            "sequence": known.sequence,
        }


@dataclass(frozen=True)
class _Own:
    """A factory as a contract whose own logs are decoded."""

    address: str
    start_block: int
    declared: Contract = field(repr=False)


def _factories_themselves(config: ChainConfig) -> list[_Own]:
    """Each factory once, with the events of all its entries."""
    found: dict[str, _Own] = {}
    for factory in config.factories:
        before = found.get(factory.address)
        if before is None:
            found[factory.address] = _Own(factory.address, factory.start_block, factory.declared)
        else:
            declared = joined(before.declared, factory.declared)
            found[factory.address] = _Own(
                factory.address, min(before.start_block, factory.start_block), declared
            )
    return list(found.values())


def joined(one: Contract, other: Contract) -> Contract:
    """One contract with the events and standards of both."""
    events = dict(one.events)
    for place, more in other.events.items():
        events[place] = tuple(dict.fromkeys((*events.get(place, ()), *more)))
    return Contract(
        one.address, one.kind or other.kind, one.standards | other.standards, events,
        (*one.anonymous, *other.anonymous),
    )  # fmt: skip


def _made_address(factory: Factory, log: Fields) -> str | None:
    """Address that a factory's log tells of; None: the log is of another event, or tells none."""
    topics = [hex_text(topic, "topic", HASH_DIGITS) for topic in log.get("topics") or ()]
    data = hex_text(log.get("data"), "data of a log")
    for event in factory.events:
        if not topics or topics[0] != event.topic0 or len(topics) != event.topics:
            continue
        try:
            args = event.decode(topics, data)
        except Undecodable:
            continue  # the block tells the log with its error
        address: str = next(arg["value"] for arg in args if arg["name"] == factory.parameter)
        return address if address != ZERO_ADDRESS else None
    return None


def _lower(block_hash: str) -> str:
    return "0x" + block_hash.lower().removeprefix("0x")
