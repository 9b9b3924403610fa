"""Event declarations (ABI JSON or Solidity's own notation) compiled to decoders of logs. Pure.

An indexed argument of a dynamic or compound type is in its topic only as a keccak-256 hash: its value is told
as that hash and marked. An anonymous event has no topic of its own, so it is only tried where it is declared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from eth_utils.crypto import keccak

from pipeline.domain.decode.evm_words import WORD, Reader, Undecodable, decode_data, word_reader
from schemas.records import EvmArg


class BadAbi(ValueError):
    """An event declaration that can't be read; the text says which and why."""


class Arg(NamedTuple):
    """One declared argument."""

    name: str
    type: str
    indexed: bool


class Event:
    """One event as declared: `decode` gives the arguments of a log."""

    __slots__ = (
        "_static_size",
        "_steps",
        "_whole",
        "anonymous",
        "args",
        "name",
        "signature",
        "topic0",
        "topics",
    )

    def __init__(self, name: str, args: Sequence[Arg], anonymous: bool = False) -> None:
        self.name, self.args, self.anonymous = name, tuple(args), anonymous
        self.signature = f"{name}({','.join(arg.type for arg in args)})"
        self.topic0 = "0x" + keccak(text=self.signature).hex()
        self.topics = sum(arg.indexed for arg in args) + (not anonymous)  # how many topics its logs have
        if self.topics > 4:
            raise BadAbi(f"{self.signature}: more indexed arguments than topics")
        self._steps, self._static_size = self._plan()
        plain = [arg.type for arg in args if not arg.indexed]
        self._whole = tuple(plain) if any(word_reader(kind) is None for kind in plain) else None

    def _plan(self) -> tuple[list[tuple[str, str, bool, int, Reader | None]], int]:
        """Per argument: name, type, indexed, place (topic, or hex digit of the data), reader."""
        steps, topic, place = [], 0 if self.anonymous else 1, 0
        for number, arg in enumerate(self.args):
            try:
                reader = word_reader(arg.type)
            except ValueError as error:
                raise BadAbi(f"{self.signature}: {error}") from None
            name = arg.name or f"arg{number}"
            steps.append((name, arg.type, arg.indexed, topic if arg.indexed else place, reader))
            if arg.indexed:
                topic += 1
            else:
                place += WORD
        return steps, place

    def decode(self, topics: Sequence[str], data: str) -> list[EvmArg]:
        """Arguments of a log: topics and data as hex with 0x. Raises Undecodable."""
        if len(topics) != self.topics:
            raise Undecodable(f"{len(topics)} topics instead of {self.topics}")
        if len(data) - 2 < self._static_size:
            raise Undecodable(f"{len(data) // 2 - 1} bytes of data are too few")
        compound = iter(decode_data(self._whole, data[2:])) if self._whole is not None else None
        args: list[EvmArg] = []
        for name, kind, indexed, place, reader in self._steps:
            hashed = False
            if indexed:
                hashed = reader is None
                value = topics[place] if reader is None else reader(topics[place][2:])
            elif compound is not None:
                value = next(compound)
            else:
                assert reader is not None  # else there is a compound
                value = reader(data[2 + place : 2 + place + WORD])
            args.append({"name": name, "type": kind, "value": value, "hashed": hashed})
        return args

    def fits_exactly(self, data: str) -> bool:
        """Whether static data have just the declared size: the only trace of an anonymous event."""
        return self._whole is not None or len(data) - 2 == self._static_size


def events_of_abi(abi: Any) -> list[Event]:
    """Events of an ABI: the JSON array, or an artifact that has it under `abi`. Raises BadAbi."""
    if isinstance(abi, Mapping):
        abi = abi.get("abi", [abi] if abi.get("type") == "event" else None)
    if not isinstance(abi, Sequence) or isinstance(abi, str):
        raise BadAbi("an ABI is a JSON array of declarations, or an object that has one under 'abi'")
    return [_event(entry) for entry in abi if isinstance(entry, Mapping) and entry.get("type") == "event"]


def _event(entry: Mapping[str, Any]) -> Event:
    name, inputs = entry.get("name"), entry.get("inputs", [])
    if not isinstance(name, str) or not isinstance(inputs, list):
        raise BadAbi(f"not an event: {str(entry)[:100]}")
    args = [Arg(str(of.get("name") or ""), _type(of), bool(of.get("indexed"))) for of in inputs]
    return Event(name, args, bool(entry.get("anonymous")))


def _type(declared: Mapping[str, Any]) -> str:
    """Canonical type: tuples by their components."""
    kind = declared.get("type")
    if not isinstance(kind, str):
        raise BadAbi(f"an argument has no type: {str(declared)[:100]}")
    if kind.startswith("tuple"):
        return f"({','.join(_type(of) for of in declared.get('components', []))}){kind[5:]}"
    return _canonical(kind)


def _canonical(kind: str) -> str:
    return re.sub(r"^(uint|int)(?![0-9])", r"\g<1>256", kind)


_DECLARATION: Final = re.compile(r"\s*(?:event\s+)?(\w+)\s*\((.*)\)\s*(anonymous)?\s*;?\s*", re.S)


def event(declaration: str) -> Event:
    """`event Transfer(address indexed from, address indexed to, uint256 value)`, without tuples."""
    match = _DECLARATION.fullmatch(declaration)
    if match is None:
        raise BadAbi(f"not an event declaration: {declaration!r}")
    args = []
    for part in filter(None, (piece.split() for piece in match[2].split(","))):
        names = [word for word in part[1:] if word != "indexed"]
        args.append(Arg(names[-1] if names else "", _canonical(part[0]), "indexed" in part[1:]))
    return Event(match[1], args, bool(match[3]))


def by_topic(events: Sequence[Event]) -> dict[tuple[str, int], tuple[Event, ...]]:
    """(topic0, number of topics) → the events whose logs look so; anonymous ones are left out."""

    def key(one: Event) -> tuple[str, int]:
        return one.topic0, one.topics

    named = sorted((one for one in events if not one.anonymous), key=key)
    return {place: tuple(same) for place, same in groupby(named, key)}
