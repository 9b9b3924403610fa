"""Which chain is this recording? The data directory's register of recorded chains.

A recording does not name its network, and stand-alone chains of the same software even share their
first ledger. What tells chains apart is the hash chain itself: a recording belongs to a known chain
if every ledger that both have is the same, and they meet. Each chain is a text file `<number>.chain`
under `<data-dir>/chains`: the name, then one line `index hash run` per ledger, written and synced
*before* the ledger is published; so what the stores know is always in the register.

Networks that are known by name have their numbers in pipeline/chains.toml; recorded chains get local
numbers from 2^14 up.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from pipeline.domain.chain_link import identity

LOCAL_FIRST = 1 << 14
LOCAL_LAST = (1 << 15) - 1


class ChainError(ValueError):
    """The recording cannot be booked into this data directory; the message says what to do."""


def known_networks() -> dict[str, int]:
    """Name → number of the networks in the committed, append-only register chains.toml."""
    table = tomllib.loads(files("pipeline").joinpath("chains.toml").read_text())
    return {row["name"]: row["number"] for row in table["chain"]}


@dataclass
class Chain:
    """A chain that this data directory has seen."""

    number: int
    name: str
    path: Path
    ledgers: dict[int, tuple[str, int]] = field(default_factory=dict)  # index -> (identity, run)

    @property
    def first(self) -> int:
        return min(self.ledgers)

    @property
    def last(self) -> int:
        return max(self.ledgers)

    def append(self, rows: Iterable[tuple[int, str, int]]) -> None:
        """Note ledgers durably (index, identity, run); known ones are skipped."""
        new = [row for row in rows if row[0] not in self.ledgers]
        if not new:
            return
        with self.path.open("a") as out:
            out.writelines(f"{index} {name or '-'} {run}\n" for index, name, run in new)
            out.flush()
            os.fsync(out.fileno())
        self.ledgers.update({index: (name, run) for index, name, run in new})


class ChainRegister:
    """All chains of one data directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.chains = [_load(path) for path in sorted(directory.glob("*.chain"))]

    def identify(self, headers: Iterable[Mapping[str, Any]], network: str | None) -> Chain:
        """The chain that a recording (its headers, in order) belongs to, or a new one.

        Raises ChainError if it belongs to a known chain but starts before it or fills a gap of it.
        """
        self._forget_empty()
        candidates = {chain.number: chain for chain in self.chains}
        met: set[int] = set()
        first: Mapping[str, Any] | None = None
        unknown: dict[int, int] = {}  # chain -> first ledger that it was booked without
        for header in headers:
            first = first or header
            index, name = header["ledger_index"], identity(header)
            for number, chain in list(candidates.items()):
                known = chain.ledgers.get(index)
                if known is not None and known[0] != name:
                    del candidates[number]
                    met.discard(number)
                elif known is None and index < chain.last:
                    unknown.setdefault(number, index)
                elif known is not None or _continues(chain, header):
                    met.add(number)
            if not candidates:
                break
        if first is None:
            raise ChainError("the recording holds no ledger")
        if met:
            chain = candidates[min(met)]
            if chain.number in unknown:
                raise ChainError(
                    f"chain {chain.name} was booked here without ledger {unknown[chain.number]}, which this "
                    "recording has: its books must be built anew; use another --data-dir"
                )
            return chain
        return self._create(first, network)

    def _forget_empty(self) -> None:
        """A chain without ledgers was named and never published: a run that was killed at once."""
        for chain in [chain for chain in self.chains if not chain.ledgers]:
            chain.path.unlink()
            self.chains.remove(chain)

    def _create(self, first: Mapping[str, Any], network: str | None) -> Chain:
        numbers = {chain.number for chain in self.chains}
        names = {chain.name for chain in self.chains}
        name = f"xrpl:{network.removeprefix('xrpl:')}" if network else f"xrpl:recorded-{identity(first)[:8]}"
        if name in names and network:
            raise ChainError(f"chain {name} in this data directory has other ledgers; use another --data-dir")
        base, copy = name, 1
        while name in names:
            copy += 1
            name = f"{base}-{copy}"
        number = known_networks().get(name)
        if number is None:
            number = max([LOCAL_FIRST - 1, *(n for n in numbers if n >= LOCAL_FIRST)]) + 1
        if number > LOCAL_LAST:
            raise ChainError(
                "this data directory has used up all local chain numbers; use another --data-dir"
            )
        path = self._directory / f"{number:05d}.chain"
        draft = path.with_suffix(".draft")
        draft.write_text(f"{name}\n")
        draft.replace(path)
        chain = Chain(number, name, path)
        self.chains.append(chain)
        return chain

    @property
    def latest(self) -> Chain | None:
        """The chain of the latest run: what exports show by default."""
        mark = self._directory / "latest"
        if mark.exists():
            for chain in self.chains:
                if str(chain.number) == mark.read_text().strip():
                    return chain
        return self.chains[-1] if self.chains else None

    def mark_latest(self, chain: Chain) -> None:
        """Remember which chain ran last."""
        (self._directory / "latest").write_text(f"{chain.number}\n")

    def find(self, name: str | None) -> Chain:
        """The chain called `name`; None: the latest. Raises ChainError naming what there is."""
        if name is None and self.latest is not None:
            return self.latest
        for chain in self.chains:
            if chain.name == name:
                return chain
        there = ", ".join(chain.name for chain in self.chains) or "none; run `tidebook demo` first"
        raise ChainError(f"no chain {name or ''!r} in {self._directory.parent} (there: {there})")


def _continues(chain: Chain, header: Mapping[str, Any]) -> bool:
    before = chain.ledgers.get(header["ledger_index"] - 1)
    return before is not None and header.get("parent_hash") == before[0]


def _load(path: Path) -> Chain:
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):  # cut off by a crash: never acted upon
        os.truncate(path, whole)
    lines = data[:whole].decode().splitlines()
    chain = Chain(int(path.stem), lines[0], path)
    for line in lines[1:]:
        index, name, run = line.split(" ")
        chain.ledgers[int(index)] = ("" if name == "-" else name, int(run))
    return chain
