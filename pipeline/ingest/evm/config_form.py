"""The form of the file that TIDEBOOK_EVM_CONFIG names: which keys there are, of which type, and how faults are told.

Only form is judged here; what keys mean together is `config`'s. A message never repeats a URL: it may hold a key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipeline.domain.decode.evm_builtin import KINDS

BLOCK_LIMIT: Final = 1 << 40  # as transfer ids have it
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_NAME: Final = re.compile(r"eip155:(0|[1-9][0-9]{0,17})")


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(value):
        raise ValueError(f"{value[:80]!r} is no address; write 0x and 40 hex digits")
    return value.lower()


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"{value[:80]!r} names no EVM chain; write eip155:<chain id>, e.g. eip155:1")
    return value


def _kind(value: str) -> str:
    if value not in KINDS:
        near = difflib.get_close_matches(value, KINDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(KINDS)}"
        raise ValueError(f"no kind {value[:80]!r}; {hint} (or give an ABI)")
    return value


Address = Annotated[str, AfterValidator(_address)]
Kind = Annotated[str, AfterValidator(_kind)]
BlockNumber = Annotated[int, Field(ge=0, lt=BLOCK_LIMIT)]
Name = Annotated[str, Field(min_length=1)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ContractForm(_Form):
    """[[chain.contract]]"""

    address: Address
    kind: Kind | None = None
    abi: Name | None = None
    start_block: BlockNumber | None = None


class FactoryForm(_Form):
    """[[chain.factory]]"""

    address: Address
    event: Name
    parameter: Name
    kind: Kind | None = None
    abi: Name | None = None
    made_kind: Kind | None = None
    made_abi: Name | None = None
    start_block: BlockNumber | None = None


class ChainForm(_Form):
    """[[chain]]"""

    name: Annotated[str, AfterValidator(_name)]
    urls: list[Name] = Field(min_length=1)
    confirmation: Literal["head", "safe", "finalized"] = "head"
    finality: Literal["tag", "depth"] = "tag"
    final_depth: int = Field(0, ge=0, le=1_000_000)
    depth_limit: int = Field(64, ge=1, le=100_000)
    final_quorum: int = Field(0, ge=0, le=1000)
    verify: Literal["header", "full"] = "full"
    start_block: BlockNumber | None = None
    burns: bool | None = None
    treasuries: list[Address] = Field(default_factory=list)
    watched: list[Address] = Field(default_factory=list)
    everything: bool = False
    exceptions: list[Name] = Field(default_factory=list)
    rate: float = Field(25.0, ge=0, allow_inf_nan=False)
    parallel: int = Field(8, ge=1, le=512)
    log_range: int = Field(2000, ge=1, le=1_000_000)
    timeout_s: float = Field(10.0, gt=0, allow_inf_nan=False)
    poll_s: float = Field(2.0, gt=0, allow_inf_nan=False)
    silence_s: float = Field(12.0, gt=0, allow_inf_nan=False)
    balance_checks: int = Field(20, ge=0, le=1_000)
    contract: list[ContractForm] = Field(default_factory=list)
    factory: list[FactoryForm] = Field(default_factory=list)


class FileForm(_Form):
    """The whole file."""

    chain: list[ChainForm] = Field(min_length=1)


_FORMS: Final[Mapping[tuple[str, ...], type[_Form]]] = {
    (): FileForm,
    ("chain",): ChainForm,
    ("chain", "contract"): ContractForm,
    ("chain", "factory"): FactoryForm,
}


def told(error: ValidationError, value: Any) -> str:
    """The first fault as one line: chain, contract, key, what is wrong, what to do. `value`: what was read."""
    first = error.errors(include_url=False)[0]
    names, at = [], value
    for place, part in enumerate(first["loc"]):
        at = _inside(at, part)
        if isinstance(part, int):
            names.append(_titled(str(first["loc"][place - 1]), part, at))
        elif not _goes_on(first["loc"], place):
            names.append(str(part)[:80])
    return ": ".join([*names, _reason(first)])


def _goes_on(loc: tuple[Any, ...], place: int) -> bool:
    """Whether a key is a list whose element follows: the element names itself."""
    return place + 1 < len(loc) and isinstance(loc[place + 1], int)


def _inside(at: Any, part: str | int) -> Any:
    try:
        return at[part]
    except (KeyError, IndexError, TypeError):
        return None


def _titled(key: str, place: int, at: Any) -> str:
    """`chain eip155:1`, `contract 0x…`; where that is not known, `chain 2`; `treasuries 3` of a list."""
    name = at.get("name" if key == "chain" else "address") if isinstance(at, Mapping) else None
    return f"{key} {name[:80] if isinstance(name, str) else place + 1}"


_HINTS: Final = {
    "missing": "missing; add it",
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list; of tables it is written [[…]]",
    "model_type": "must be a table",
    "string_too_short": "is empty; write it or leave the key out",
    "too_short": "is empty; name at least one",
}


def _reason(first: Any) -> str:
    kind, context = first["type"], first.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(first["loc"])
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"must be one of {context['expected']}"
    if kind in _HINTS:
        return _HINTS[kind]
    message = str(first["msg"])
    return message.replace("Input should", "must")


def _unknown_key(loc: tuple[Any, ...]) -> str:
    form = _FORMS.get(tuple(part for part in loc[:-1] if isinstance(part, str)), FileForm)
    known = list(form.model_fields)
    near = difflib.get_close_matches(str(loc[-1]), known, 1, 0.5)
    return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; there are {', '.join(known)}"
