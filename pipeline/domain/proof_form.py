"""The form of a proof file: JSON of one object, every field of which is needed and none of which is only told.

A file holds what is hashed and nothing that a reader would have to believe: whatever of it is changed, it no longer
leads to its block's hash, or it is no proof file any more. So what is not known here is refused, hex has one
spelling, and no name stands twice. docs/proofs.md tells the form to who writes a reader of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import orjson

FORMAT: Final = "tidebook-proof"
VERSION: Final = 1
BYTES_MAX: Final = 64 << 20
"""A block's largest receipts have some 15 MB in hex."""

Proof = dict[str, Any]


class NotAProof(ValueError):
    """Something that is no proof file, or none that is known here; says in one line why."""


def proof_of(kind: str, **fields: Any) -> Proof:
    """A proof of this kind with the fields that every proof has."""
    return {"format": FORMAT, "version": VERSION, "kind": kind, **fields}


def write(proof: Proof) -> bytes:
    """The file's content."""
    return json.dumps(proof, indent=1).encode() + b"\n"


def read(content: bytes) -> Proof:
    """The object of a file, known to be of this format and version. Raises NotAProof."""
    if len(content) > BYTES_MAX:
        raise NotAProof(f"it has more than {BYTES_MAX >> 20} MB")
    try:
        orjson.loads(content)  # bounds the depth, which json leaves to the interpreter's stack
        proof = json.loads(content, object_pairs_hook=_once, parse_constant=_no_number)
    except NotAProof:
        raise
    except RecursionError:
        raise NotAProof("it is nested too deep") from None
    except ValueError as error:
        raise NotAProof(f"it is not JSON: {str(error)[:120]}") from None
    if not isinstance(proof, dict) or proof.get("format") != FORMAT:
        raise NotAProof(f'it is no object with "format": "{FORMAT}"')
    version = proof.get("version")
    if type(version) is not int or version != VERSION:
        raise NotAProof(f"it is of version {short(version)}; version {VERSION} is known here")
    return proof


def _once(pairs: list[tuple[str, Any]]) -> Proof:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NotAProof("an object has the same name twice")
    return found


def _no_number(text: str) -> Any:
    raise NotAProof(f"{text} is no number")


def short(value: object) -> str:
    """A value in a message: one line, never long. The text of a huge one is not made."""
    if isinstance(value, (dict, list)):
        return f"a {'list' if isinstance(value, list) else 'object'} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    text = value if isinstance(value, str) else json.dumps(value)
    return repr(text[:64] + "…" if len(text) > 64 else text)


def must_have(
    of: Mapping[str, Any], names: Collection[str], may: Collection[str] = (), what: str = "it"
) -> None:
    """That an object has these names, and but them only those that it may have. Raises NotAProof."""
    if missing := [name for name in names if name not in of]:
        raise NotAProof(f"{what} lacks {missing[0]}")
    if unknown := of.keys() - {*names, *may}:
        raise NotAProof(f"{what} has {short(min(unknown))}, which is not known here")


def listed(value: object, name: str, most: int) -> list[Any]:
    """A list of at most so many. Raises NotAProof."""
    if not isinstance(value, list) or len(value) > most:
        raise NotAProof(f"{name} must be a list of at most {most}, not {short(value)}")
    return value


def whole(value: object, name: str, limit: int) -> int:
    """A whole number from 0, below `limit`. Raises NotAProof."""
    if type(value) is not int or not 0 <= value < limit:
        raise NotAProof(f"{name} must be a whole number below {limit}, not {short(value)}")
    return value


def octets(value: object, name: str, size: int | None, told: Callable[[bytes], str], digits: str) -> bytes:
    """Bytes (so many, if `size`) of hex in the one spelling that `told` gives them. Raises NotAProof.

    `digits`: that spelling in words, {} where the number of digits stands."""
    try:
        found = bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None or told(found) != value or (size is not None and len(found) != size):
        needed = digits.format("" if size is None else f"{2 * size} ")
        raise NotAProof(f"{name} must be {needed}, not {short(value)}")
    return found
