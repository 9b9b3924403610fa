"""Which events are looked for in whose logs, and the decoding of one log. Pure.

A contract is declared by its address with a kind or an ABI (a proxy: with the ABI of what is behind it). Its
own events win; then what is known without an ABI is tried by first topic, number of topics and layout. A
contract that nobody declared is read by the latter alone. What nothing fits stays as it came: event null.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.domain.decode.evm_abi import BadAbi, Event, by_topic, events_of_abi
from pipeline.domain.decode.evm_builtin import ANY, KINDS, TOKEN_OF_KIND
from pipeline.domain.decode.evm_words import Undecodable
from schemas.records import EvmLog

STANDARDS: Final = frozenset({"erc20", "erc721", "erc1155", "weth"})
ADDRESS: Final = re.compile(r"0x[0-9a-f]{40}")

Index = Mapping[tuple[str, int], tuple[Event, ...]]

_ANY: Final[Index] = by_topic(ANY)
_TRANSFER: Final = "Transfer(address,address,uint256)"


@dataclass(frozen=True, slots=True)
class Contract:
    """What is known of one contract."""

    address: str
    kind: str | None  # of KINDS; None where an ABI or nothing was given
    standards: frozenset[str]  # the standards by which its logs move tokens
    events: Index = field(default_factory=dict, repr=False)  # its own, by topic
    anonymous: tuple[Event, ...] = field(default=(), repr=False)


def contract(address: str, kind: str | None = None, abi: Any = None) -> Contract:
    """A declared contract: a kind of KINDS, an ABI (JSON), or both (the ABI's events win). Raises BadAbi."""
    address = address.lower()
    if not ADDRESS.fullmatch(address):
        raise BadAbi(f"not an address: {address!r}")
    if kind is None and abi is None:
        raise BadAbi(f"contract {address}: neither a kind nor an ABI")
    if kind is not None and kind not in KINDS:
        raise BadAbi(f"contract {address}: no kind {kind!r}; there are {', '.join(KINDS)}")
    own = events_of_abi(abi) if abi is not None else []
    events = [*own, *(KINDS[kind] if kind is not None else ())]
    standards = TOKEN_OF_KIND.get(kind, frozenset()) if kind is not None else _standards(own)
    anonymous = tuple(event for event in events if event.anonymous)
    return Contract(address, kind, standards, by_topic(events), anonymous)


def _standards(events: Sequence[Event]) -> frozenset[str]:
    """Standards that an ABI follows; wraps only by the kind `weth`, for many declare a Deposit."""
    found = set()
    for event in events:
        if event.signature == _TRANSFER and not event.anonymous:
            found.add("erc721" if event.args[2].indexed else "erc20")
        elif event.name in ("TransferSingle", "TransferBatch"):
            found.add("erc1155")
    return frozenset(found)


class Contracts:
    """The declared contracts. All others' logs are read by their topics; what those move is told only where
    `others`, which is so unless contracts are declared: who watches some must not book bits of the rest.
    """

    def __init__(self, declared: Iterable[Contract] = (), others: bool | None = None) -> None:
        self._declared = {each.address: each for each in declared}
        self._others = not self._declared if others is None else others

    def __len__(self) -> int:
        return len(self._declared)

    def __contains__(self, address: str) -> bool:
        return address in self._declared

    @property
    def addresses(self) -> frozenset[str]:
        return frozenset(self._declared)

    def find(self, address: str) -> Contract | None:
        """The declared contract of an address (lower case), None if there is none."""
        return self._declared.get(address)

    def with_contract(self, added: Contract) -> Contracts:
        """These and one more: what a factory has created."""
        return Contracts([*self._declared.values(), added], self._others)

    def standards(self, address: str) -> frozenset[str] | None:
        """Standards by which a contract's transfers are told; None: the layout of the log decides."""
        known = self._declared.get(address)
        if known is not None:
            return known.standards
        return None if self._others else frozenset()

    def decode(self, log: EvmLog) -> None:
        """Puts event, signature and args into a log that has none yet; `error` if its event is known but
        what it carries is not as declared."""
        known = self._declared.get(log["contract"])
        topics = log["topics"]
        if topics:
            place = (topics[0], len(topics))
            if known is not None and _try(known.events.get(place, ()), log):
                return
            if _try(_ANY.get(place, ()), log):
                return
        if known is not None and known.anonymous:
            _try_anonymous(known.anonymous, log)


def _try(events: Iterable[Event], log: EvmLog) -> bool:
    for event in events:
        try:
            log["args"] = event.decode(log["topics"], log["data"])
        except Undecodable as error:
            log["error"] = f"{event.signature}: {error}"
            continue
        log["event"], log["signature"], log["error"] = event.name, event.signature, None
        return True
    return False


def _try_anonymous(events: Iterable[Event], log: EvmLog) -> None:
    """An anonymous event is told only if exactly one declared fits: it bears no name of its own."""
    fits = []
    for event in events:
        if event.topics == len(log["topics"]) and event.fits_exactly(log["data"]):
            try:
                fits.append((event, event.decode(log["topics"], log["data"])))
            except Undecodable:
                continue
    if len(fits) == 1:
        event, args = fits[0]
        log["event"], log["signature"], log["args"], log["error"] = event.name, event.signature, args, None
    elif fits:
        log["error"] = f"fits {len(fits)} anonymous events: {', '.join(event.name for event, _ in fits)}"


UNDECLARED: Final = Contracts()
