"""The EVM chains that are followed: the file that TIDEBOOK_EVM_CONFIG names, read once and checked whole.

The file's form is `config_form`; here it becomes what the ingest works with. Whatever is wrong is a ConfigError of
one line: file, chain, key, what is wrong, what to do. Keys of nodes come from the environment (`${NAME}` in a
URL), and no message ever shows more of a URL than its host. deploy/evm.example.toml explains every key.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import ValidationError

from pipeline.domain.decode.evm import Chain
from pipeline.domain.decode.evm_abi import BadAbi, Event, event, events_of_abi
from pipeline.domain.decode.evm_builtin import KINDS
from pipeline.domain.decode.evm_contracts import Contract, contract
from pipeline.domain.decode.evm_gas import CHAINS_THAT_BURN
from pipeline.ingest.evm.config_form import ChainForm, ContractForm, FactoryForm, FileForm, told

SETTING: Final = "TIDEBOOK_EVM_CONFIG"
_VARIABLE: Final = re.compile(r"\$\{(\w*)\}")
_SCHEMES: Final = ("http", "https", "ws", "wss")


class ConfigError(ValueError):
    """The file is wrong; the message is one line that says where, what and what to do."""


@dataclass(frozen=True)
class WatchedContract:
    """A contract that the file names. Its books begin at `start_block`."""

    address: str
    start_block: int
    declared: Contract  # its kind and events


@dataclass(frozen=True)
class Factory:
    """A contract whose `event` names contracts that it makes, in the argument `parameter`."""

    address: str
    start_block: int
    events: tuple[Event, ...]  # of one signature; they differ in which arguments are indexed
    parameter: str
    made: Contract  # the pattern of what it makes; its address is none
    declared: Contract  # the factory's own kind and events

    @property
    def signature(self) -> str:
        return self.events[0].signature


@dataclass(frozen=True)
class ChainConfig:
    """One chain of the file. Addresses are in lower case."""

    name: str
    chain_id: int
    urls: tuple[str, ...]
    confirmation: Literal["head", "safe", "finalized"]  # from which tag on blocks are read
    finality: Literal["tag", "depth"]
    final_depth: int  # blocks that a final block is at least behind the newest
    depth_limit: int  # deepest reorganisation that is believed
    final_quorum: int  # nodes that must have a block before it is told as final; 0 = more than half
    level: Literal["header", "full"]
    start_block: int
    burns: bool | None  # whether base fee and blob fee are burnt; None = unknown
    treasuries: frozenset[str]
    watched: frozenset[str]  # transactions from or to these are kept
    exceptions: frozenset[str]  # names of checks that the chain can't stand
    everything: bool  # keep every transaction
    contracts: tuple[WatchedContract, ...]
    factories: tuple[Factory, ...]
    rate: float  # requests a second to one node; 0 = no limit
    parallel: int
    log_range: int  # blocks of one eth_getLogs, at most
    timeout_s: float
    poll_s: float
    silence_s: float
    balance_checks: int  # balances of a block that are held against balanceOf, at most

    @property
    def decode_chain(self) -> Chain:
        """What the decoder must know."""
        return Chain(self.burns, self.treasuries, self.watched, self.everything)


def read_config(path: Path, environ: Mapping[str, str]) -> dict[str, ChainConfig]:
    """Chains of the file by name, in its order. Raises ConfigError."""
    try:
        return _read(path, environ)
    except _Wrong as wrong:
        raise ConfigError(f"setting {SETTING}={path}: {wrong}") from None


class _Wrong(ValueError):
    """What is wrong, without the file's name."""


def _read(path: Path, environ: Mapping[str, str]) -> dict[str, ChainConfig]:
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise _Wrong(f"can't be read: {reason}; name a TOML file like deploy/evm.example.toml") from None
    except tomllib.TOMLDecodeError as error:
        raise _Wrong(f"is no TOML: {' '.join(str(error).split())}") from None
    try:
        form = FileForm.model_validate(value)
    except ValidationError as error:
        raise _Wrong(told(error, value)) from None
    found: dict[str, ChainConfig] = {}
    for chain in form.chain:
        if chain.name in found:
            raise _Wrong(f"chain {chain.name}: named twice; keep one [[chain]] of that name")
        try:
            found[chain.name] = _chain(chain, path.parent, environ)
        except (_Wrong, BadAbi) as wrong:
            raise _Wrong(f"chain {chain.name}: {wrong}") from None
    return found


def _chain(form: ChainForm, directory: Path, environ: Mapping[str, str]) -> ChainConfig:
    chain_id = int(form.name.removeprefix("eip155:"))
    _check_finality(form)
    start = _start_block(form)
    if not (form.contract or form.factory or form.watched or form.everything):
        raise _Wrong("nothing is watched; add a [[chain.contract]], a [[chain.factory]], watched addresses "
                     "or everything = true")  # fmt: skip
    factories = [_factory(one, start, directory) for one in form.factory]
    _no_twice(((one.address, one.signature) for one in factories), "factory", "its event")
    contracts = [_contract(one, start, directory) for one in form.contract]
    _no_twice(((one.address,) for one in contracts), "contract", "address")
    return ChainConfig(
        name=form.name, chain_id=chain_id, urls=_urls(form.urls, environ), confirmation=form.confirmation,
        finality=form.finality, final_depth=form.final_depth, depth_limit=form.depth_limit,
        final_quorum=form.final_quorum, level=form.verify,
        start_block=start, burns=form.burns if form.burns is not None else chain_id in CHAINS_THAT_BURN or None,
        treasuries=frozenset(form.treasuries), watched=frozenset(form.watched),
        exceptions=frozenset(form.exceptions), everything=form.everything, contracts=tuple(contracts),
        factories=tuple(factories), rate=form.rate, parallel=form.parallel, log_range=form.log_range,
        timeout_s=form.timeout_s, poll_s=form.poll_s, silence_s=form.silence_s,
        balance_checks=form.balance_checks,
    )  # fmt: skip


def _check_finality(form: ChainForm) -> None:
    if form.finality == "depth" and form.final_depth < 1:
        raise _Wrong(
            'final_depth: finality = "depth" needs one; say how many blocks behind the newest are final'
        )
    if form.finality == "depth" and form.confirmation != "head":
        raise _Wrong(f'confirmation: a chain without tags (finality = "depth") has no tag {form.confirmation!r}; '
                     'say "head", or finality = "tag"')  # fmt: skip

    if form.final_quorum > len(form.urls):
        raise _Wrong(
            f"final_quorum: {form.final_quorum} nodes can't agree where urls names {len(form.urls)}; "
            "name more nodes or a smaller one"
        )


def _start_block(form: ChainForm) -> int:
    parts: list[ContractForm | FactoryForm] = [*form.contract, *form.factory]
    named = [one.start_block for one in parts if one.start_block is not None]
    if form.start_block is None:
        if not named:
            raise _Wrong("start_block: missing; say from which block on the chain is read (0 = all of it)")
        return min(named)
    for one in parts:
        if one.start_block is not None and one.start_block < form.start_block:
            raise _Wrong(f"contract {one.address}: start_block {one.start_block} is below the chain's, "
                         f"{form.start_block}; raise it, or lower the chain's")  # fmt: skip
    return form.start_block


def _urls(urls: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """URLs with the environment's values put in."""
    found: list[str] = []
    for place, url in enumerate(urls, 1):
        for name in _VARIABLE.findall(url):
            if not environ.get(name):
                raise _Wrong(f"urls: URL {place} needs ${{{name}}}, which is not set; export {name}")
        made = _VARIABLE.sub(lambda match: environ[match[1]], url).strip()
        host = _host(made)
        if host is None:
            raise _Wrong(f"urls: URL {place} is no address of a node; write http(s)://host… or ws(s)://host…")
        if made in found:
            raise _Wrong(f"urls: URL {place} ({host}) is there twice; take one away")
        found.append(made)
    return tuple(found)


def _host(url: str) -> str | None:
    """Host of a node's URL; None: it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if parts.scheme in _SCHEMES and not re.search(r"\s", url) else None


def _contract(form: ContractForm, start: int, directory: Path) -> WatchedContract:
    what = f"contract {form.address}"
    declared = _declared(what, form.address, form.kind, form.abi, directory, ("kind", "abi"))
    return WatchedContract(form.address, start if form.start_block is None else form.start_block, declared)


def _factory(form: FactoryForm, start: int, directory: Path) -> Factory:
    what = f"factory {form.address}"
    abi = _abi(what, "abi", form.abi, directory) if form.abi is not None else None
    events = _events(what, form, abi)
    arguments = {arg.name: arg.type for arg in events[0].args}
    if arguments.get(form.parameter) != "address":
        addresses = (
            ", ".join(name for name, kind in arguments.items() if kind == "address" and name) or "none"
        )
        raise _Wrong(f"{what}: parameter: {form.parameter!r} is no address in {events[0].signature}; "
                     f"of type address there: {addresses}")  # fmt: skip
    made = _declared(what, f"0x{0:040x}", form.made_kind, form.made_abi, directory, ("made_kind", "made_abi"))
    abi = abi if abi is not None or form.kind is not None else [_abi_of(events[0])]
    declared = contract(form.address, form.kind, abi)
    return Factory(form.address, start if form.start_block is None else form.start_block,
                   events, form.parameter, made, declared)  # fmt: skip


def _events(what: str, form: FactoryForm, abi: Any) -> tuple[Event, ...]:
    """The declarations of the factory's event, all of one signature."""
    known = [*(events_of_abi(abi) if abi is not None else ()), *(KINDS[form.kind] if form.kind else ())]
    if "(" in form.event:
        written = event(form.event)
        found = [one for one in known if one.signature == written.signature] or [written]
    else:
        found = [one for one in known if one.name == form.event]
    if not found:
        there = ", ".join(sorted({one.name for one in known})) or "none: give its abi"
        raise _Wrong(f"{what}: event: no event {form.event!r} is known of it ({there}), or write it out: "
                     'event = "Made(address indexed token)"')  # fmt: skip
    signatures = sorted({one.signature for one in found})
    if len(signatures) > 1:
        raise _Wrong(f"{what}: event: {form.event!r} may be {' or '.join(signatures)}; write out which")
    if any(one.anonymous for one in found):
        raise _Wrong(f"{what}: event: {signatures[0]} is anonymous, its logs can't be told; name another")
    return tuple(found)


def _declared(
    what: str, address: str, kind: str | None, abi: str | None, directory: Path, keys: tuple[str, str]
) -> Contract:
    """A contract by kind or ABI file, or both; `keys`: what they are called in the file."""
    if kind is None and abi is None:
        raise _Wrong(f'{what}: neither {keys[0]} nor {keys[1]}; say what it is, e.g. {keys[0]} = "erc20"')
    return contract(address, kind, _abi(what, keys[1], abi, directory) if abi is not None else None)


def _abi(what: str, key: str, name: str, directory: Path) -> Any:
    """The JSON of an ABI file, which declares at least one event."""
    path = directory / name
    try:
        abi = json.loads(path.read_text(encoding="utf-8"))
        events = events_of_abi(abi)
    except OSError as error:
        raise _Wrong(
            f"{what}: {key}: {path} can't be read ({error.strerror}); paths are relative to this file"
        ) from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # BadAbi too
        raise _Wrong(f"{what}: {key}: {path} is no ABI: {' '.join(str(error).split())[:200]}; give the JSON array of "
                     "an ABI or a compiler's artifact that has it under \"abi\"") from None  # fmt: skip
    if not events:
        raise _Wrong(f"{what}: {key}: {path} declares no event; give the ABI of what is behind a proxy")
    return abi


def _abi_of(one: Event) -> dict[str, Any]:
    """A written-out declaration as an ABI has it."""
    inputs = [{"name": arg.name, "type": arg.type, "indexed": arg.indexed} for arg in one.args]
    return {"type": "event", "name": one.name, "inputs": inputs, "anonymous": False}


def _no_twice(names: Any, what: str, by: str) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise _Wrong(f"{what} {name[0]}: named twice (same {by}); keep one")
        seen.add(name)
