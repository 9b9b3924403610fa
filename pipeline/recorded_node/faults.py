"""Faults on request: what can go wrong with a node, as numbers that may change while it runs.

Every draw is a hash of (seed, fault, what it is about, how often it was drawn), so one seed gives the same
weather whatever the order in which requests arrive. A rate is the share of answers or messages that suffer,
0 to 1.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final


class FaultError(ValueError):
    """A fault that was asked for does not exist or has a bad value; the message is one clear line."""


def _what(doc: str, default: Any = 0) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(slots=True)
class Faults:
    """What goes wrong, all off by default. Fields may be set at any time."""

    seed: int = _what("of every draw")
    # connections
    disconnect: int = _what("about every so many messages the connection is cut")
    silence: float = _what(
        "seconds for which nothing is sent or answered, about every `silence_every` messages", 0.0
    )
    silence_every: int = _what("messages between two silences", 200)
    slow: float = _what("mean delay of an answer, seconds (0 to twice as long)", 0.0)
    # what the node has
    missing: frozenset[int] = _what("ledgers that the node lacks", frozenset())
    first: int = _what("oldest ledger that the node still has")
    behind: int = _what("ledgers by which the node stays behind")
    stand_still: bool = _what("the node gets no further", False)
    late: float = _what("seconds from the announcement of a ledger until it can be read", 0.0)
    network_id: int | None = _what("network id that the node names in place of its own", None)
    # stream messages
    reorder: float = _what("rate of stream messages that come after later ones", 0.0)
    duplicate: float = _what("rate of stream messages that come twice", 0.0)
    # wrong answers to `ledger`
    only: frozenset[int] = _what("ledgers that wrong answers are given for; none named: all", frozenset())
    forged_transaction: float = _what("rate: one transaction changed, hash and header as they were", 0.0)
    forged_header: float = _what("rate: the header's state hash changed, ledger_hash as it was", 0.0)
    other_ledger: float = _what("rate: the content of a neighbouring ledger", 0.0)
    other_chain: float = _what("rate: a ledger whose own hash holds, of another chain", 0.0)
    not_validated: float = _what("rate: validated false", 0.0)
    lacks_transaction: float = _what("rate: one transaction left out", 0.0)
    oversized: int = _what("bytes by which an answer to `ledger` is blown up")
    # wrong answers to anything
    garbage: float = _what("rate: cut-off JSON", 0.0)
    no_id: float = _what("rate: an answer without its id", 0.0)
    answer_twice: float = _what("rate: the same answer twice", 0.0)
    html: float = _what("rate: an HTML page", 0.0)
    slow_down: float = _what("rate: error slowDown", 0.0)
    too_busy: float = _what("rate: error tooBusy", 0.0)
    # validations, by the validators' numbers from 0
    forged_validation: frozenset[int] = _what("validators whose signatures are forged", frozenset())
    missing_validation: frozenset[int] = _what("validators that are silent", frozenset())
    other_validation: frozenset[int] = _what("validators that validate another ledger", frozenset())


class Draws:
    """Chances of one node's faults."""

    def __init__(self) -> None:
        self._times: Counter[tuple[str, object]] = Counter()

    def number(self, faults: Faults, name: str, about: object = "") -> float:
        """The next number in 0..1 for a fault about something."""
        self._times[name, about] += 1
        text = f"{faults.seed}/{name}/{about}/{self._times[name, about]}"
        return int.from_bytes(blake2b(text.encode(), digest_size=7).digest()) / (1 << 56)

    def happens(self, faults: Faults, name: str, about: object = "") -> bool:
        """True if the fault of this name, a rate, strikes now."""
        rate = getattr(faults, name)
        return bool(rate) and self.number(faults, name, about) < rate


_FIELDS: Final = {each.name: each for each in dataclasses.fields(Faults)}


def fault_names() -> dict[str, str]:
    """Every fault as `--fault` names it, with what it does."""
    return {name.replace("_", "-"): each.metadata["doc"] for name, each in _FIELDS.items() if name != "seed"}


def parse_faults(texts: Iterable[str], seed: int = 0) -> Faults:
    """Faults from texts NAME or NAME=VALUE. Raises FaultError.

    A rate without a value is 1. Sets are lists of numbers and ranges: 5,7-9. A silence of so many seconds
    may be given as SECONDS/MESSAGES.
    """
    faults = Faults(seed=seed)
    for text in texts:
        name, _, value = text.partition("=")
        key = name.strip().replace("-", "_")
        if key not in _FIELDS or key == "seed":
            raise FaultError(f"--fault {name}: there is no such fault; there are: {', '.join(fault_names())}")
        if key == "silence" and "/" in value:
            value, _, every = value.partition("/")
            faults.silence_every = _read("silence_every", every, text)
        setattr(faults, key, _read(key, value.strip(), text))
    return faults


def _read(key: str, value: str, text: str) -> Any:
    kind = str(_FIELDS[key].type)
    try:
        if "frozenset" in kind:
            return _numbers(value)
        if kind == "bool":
            return {"": True, "1": True, "true": True, "0": False, "false": False}[value.lower()]
        number = float(value or 1) if kind == "float" else int(value or 1)
    except (KeyError, ValueError):
        raise FaultError(f"--fault {text}: not a value of {key.replace('_', '-')}") from None
    is_rate = _FIELDS[key].metadata["doc"].startswith("rate")
    if not 0 <= number < (1.000001 if is_rate else float("inf")):
        what = "a rate from 0 to 1" if is_rate else "not below 0"
        raise FaultError(f"--fault {text}: {key.replace('_', '-')} is {what}")
    return number


def _numbers(value: str) -> frozenset[int]:
    found: set[int] = set()
    for part in value.split(","):
        low, _, high = part.partition("-")
        found.update(range(int(low), int(high or low) + 1))
    if not found:
        raise ValueError(value)
    return frozenset(found)
