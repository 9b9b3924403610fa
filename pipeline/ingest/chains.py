"""Which chain is this recording? The data directory's register of recorded chains.

A recording does not name its network, and stand-alone chains of the same software even share their
first ledger. What tells chains apart is the hash chain itself: a recording belongs to a known chain
if every ledger that both have is the same, and they meet. Each chain is a text file `<number>.chain`
under `<data-dir>/chains`: the name, then one line `index hash run` per ledger, written and synced
*before* the ledger is published; so what the stores know is always in the register.

Networks that are known by name have their numbers in pipeline/chains.toml and the file that
TIDEBOOK_CHAINS_FILE names; recorded and unnamed chains get local numbers from 2^14 up. A chain that is
followed from nodes is kept *sparse*: its first ledgers and the first ledger of every run, enough to know
it again and to go on with the same runs.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from pipeline.domain.chain_link import identity

OWN_FIRST = 1000  # numbers of the networks in an operator's own file
SPARSE_KEPT = 16
LOCAL_FIRST = 1 << 14
LOCAL_LAST = (1 << 15) - 1


class ChainError(ValueError):
    """The recording cannot be booked into this data directory; the message says what to do."""


@dataclass(frozen=True)
class Network:
    """A network that has a name: one row of chains.toml."""

    number: int
    name: str
    partition: int
    network_id: int | None = None  # what an XRPL node must say of itself; None: not judged
    anchor: tuple[int, str] | None = None  # a ledger that the chain must have: index, hash


def known_networks(own: Path | None = None) -> dict[str, Network]:
    """Networks by name: the committed, append-only registry chains.toml and an operator's `own` file.

    Raises ChainError naming TIDEBOOK_CHAINS_FILE where that file can't be read or takes what is taken.
    """
    table = tomllib.loads(files("pipeline").joinpath("chains.toml").read_text())
    found = {row["name"]: _network(row) for row in table["chain"]}
    for network in _own_networks(own) if own is not None else ():
        taken = [n for n in found.values() if network.name == n.name or network.number == n.number
                 or network.partition == n.partition]  # fmt: skip
        if taken or not OWN_FIRST <= network.number < LOCAL_FIRST:
            said = f"its name, number or partition is {taken[0].name}'s" if taken else (
                f"its number {network.number} is not within {OWN_FIRST}-{LOCAL_FIRST - 1}")  # fmt: skip
            raise ChainError(f"setting TIDEBOOK_CHAINS_FILE={own}: chain {network.name}: {said}")
        found[network.name] = network
    return found


def _own_networks(path: Path) -> list[Network]:
    try:
        return [_network(row) for row in tomllib.loads(path.read_text())["chain"]]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise ChainError(f"setting TIDEBOOK_CHAINS_FILE={path}: {type(error).__name__} {error}") from None


def _network(row: Mapping[str, Any]) -> Network:
    anchor = row.get("anchor")
    return Network(
        int(row["number"]), str(row["name"]), int(row["partition"]), row.get("network_id"),
        (int(anchor["index"]), str(anchor["hash"])) if anchor else None,
    )  # fmt: skip


def chain_partitions(own: Path | None = None) -> int:
    """How many partitions a topic with one per chain needs for the networks that have names."""
    return 1 + max(network.partition for network in known_networks(own).values())


@dataclass
class Chain:
    """A chain that this data directory has seen."""

    number: int
    name: str
    path: Path
    ledgers: dict[int, tuple[str, int]] = field(default_factory=dict)  # index -> (identity, run)
    sparse: bool = False
    partition: int = 0

    @property
    def first(self) -> int:
        return min(self.ledgers)

    @property
    def last(self) -> int:
        return max(self.ledgers)

    def is_of(self, headers: Sequence[Mapping[str, Any]]) -> bool:
        """Do these ledgers belong to it: some are known, and none differs?"""
        common = [header for header in headers if header["ledger_index"] in self.ledgers]
        return bool(common) and all(
            self.ledgers[header["ledger_index"]][0] == identity(header) for header in common
        )

    def append(self, rows: Iterable[tuple[int, str, int]]) -> None:
        """Note ledgers durably (index, identity, run); known ones are skipped."""
        new = [row for row in rows if row[0] not in self.ledgers]
        if self.sparse:
            room = SPARSE_KEPT - len(self.ledgers)
            new = [row for place, row in enumerate(new) if place < room or row[0] == row[2]]
        if not new:
            return
        with self.path.open("a") as out:
            out.writelines(f"{index} {name or '-'} {run}\n" for index, name, run in new)
            out.flush()
            os.fsync(out.fileno())
        self.ledgers.update({index: (name, run) for index, name, run in new})


class ChainRegister:
    """All chains of one data directory."""

    def __init__(self, directory: Path, own: Path | None = None) -> None:
        self._directory = directory
        self.networks = known_networks(own)
        directory.mkdir(parents=True, exist_ok=True)
        self.chains = [_load(path) for path in sorted(directory.glob("*.chain"))]
        for chain in self.chains:
            chain.partition = self._partition(chain.name, chain.number)

    def of_node(self, headers: Sequence[Mapping[str, Any]], name: str) -> Chain:
        """The chain that nodes serve: by its network's name, else ("") by its first ledgers, or a new one.

        Raises ChainError where a chain of that name here has other ledgers.
        """
        told = [(header["ledger_index"], identity(header)) for header in headers]
        fresh = name or f"xrpl:recorded-{told[0][1][:8]}"
        for chain in self.chains:
            common = [(index, hash_) for index, hash_ in told if index in chain.ledgers]
            same = all(chain.ledgers[index][0] == hash_ for index, hash_ in common)
            if name and chain.name == name:
                if not same:
                    raise ChainError(
                        f"chain {name} in {self._directory.parent} has other ledgers than the nodes of "
                        "TIDEBOOK_XRPL_URLS; use another --data-dir, or name the network (TIDEBOOK_XRPL_NETWORK)"
                    )
                return chain
            if not name and common and same and chain.name not in self.networks:
                return chain
            if chain.name == fresh and not chain.ledgers:  # named by an ingest that had not published yet
                return chain
        return self._create(headers[0], name or None, sparse=True)

    def evm_chain(self, name: str) -> Chain:
        """The EVM chain of this name (eip155:<id>); a new one where this data directory has not seen it."""
        for chain in self.chains:
            if chain.name == name:
                return chain
        return self._add(name, sparse=True)

    def _partition(self, name: str, number: int) -> int:
        network = self.networks.get(name)
        return network.partition if network else max(0, number - LOCAL_FIRST)

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
                elif known is None and index < chain.last and not chain.sparse:
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
        for chain in [chain for chain in self.chains if not chain.ledgers and chain.name.startswith("xrpl:")]:
            chain.path.unlink()
            self.chains.remove(chain)

    def _create(self, first: Mapping[str, Any], network: str | None, sparse: bool = False) -> Chain:
        names = {chain.name for chain in self.chains}
        name = f"xrpl:{network.removeprefix('xrpl:')}" if network else f"xrpl:recorded-{identity(first)[:8]}"
        if name in names and network:
            raise ChainError(f"chain {name} in this data directory has other ledgers; use another --data-dir")
        base, copy = name, 1
        while name in names:
            copy += 1
            name = f"{base}-{copy}"
        return self._add(name, sparse=sparse)

    def _add(self, name: str, sparse: bool) -> Chain:
        """A new chain, its number durable before anything is published under it."""
        numbers = {chain.number for chain in self.chains}
        known = self.networks.get(name)
        first = (
            known.number if known else max([LOCAL_FIRST - 1, *(n for n in numbers if n >= LOCAL_FIRST)]) + 1
        )
        number, path = self._claim(first, f"{name} sparse\n" if sparse else f"{name}\n", bool(known))
        chain = Chain(number, name, path, sparse=sparse, partition=self._partition(name, number))
        self.chains.append(chain)
        return chain

    def _claim(self, number: int, line: str, fixed: bool) -> tuple[int, Path]:
        """The first number from this one on that no other process has taken meanwhile, and its file."""
        draft = self._directory / f"{os.getpid()}.draft"
        draft.write_text(line)
        try:
            while number <= LOCAL_LAST:
                path = self._directory / f"{number:05d}.chain"
                try:
                    os.link(draft, path)
                    return number, path
                except FileExistsError:  # taken meanwhile, perhaps by a process that follows the same chain
                    if fixed or path.read_text().splitlines()[:1] == line.splitlines():
                        return number, path
                    number += 1
        finally:
            draft.unlink()
        raise ChainError("this data directory has used up all local chain numbers; use another --data-dir")

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
    name, _, kind = lines[0].partition(" ")
    chain = Chain(int(path.stem), name, path, sparse=kind == "sparse")
    for line in lines[1:]:
        index, name, run = line.split(" ")
        chain.ledgers[int(index)] = ("" if name == "-" else name, int(run))
    return chain
