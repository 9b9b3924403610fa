"""A proof file with anything changed proves nothing, and files made to hurt end in one line."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from pipeline.domain import proof, proof_evm, proof_xrpl
from pipeline.domain.proof_errors import Contradiction
from pipeline.domain.proof_form import BYTES_MAX, NotAProof, Proof, read, write
from tests.pipeline import test_proof_evm as evm
from tests.pipeline import test_proof_xrpl as xrpl

KINDS = ("xrpl", "evm", "evm-log")
REFUSED = (NotAProof, Contradiction)
Path = tuple[str | int, ...]


@cache
def content(kind: str) -> bytes:
    if kind == "xrpl":
        return write(proof_xrpl.make(*xrpl.one()))
    return write(evm.made() if kind == "evm" else proof_evm.make(*evm.with_log()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_byte_anywhere(kind: str) -> None:
    """Seeded: replaced, taken out, put in. What is left the same to JSON is the same proof."""
    draw, whole, same = random.Random(kind), content(kind), json.loads(content(kind))
    refused = 0
    for _ in range(400):
        at, byte = draw.randrange(len(whole)), draw.choice(b'0123456789abcdefABCDEF",:{}[]x \n\\\0\xff')
        changed = draw.choice([
            whole[:at] + bytes((byte,)) + whole[at + 1 :], whole[:at] + whole[at + 1 :],
            whole[:at] + bytes((byte,)) + whole[at:],
            whole[:at] + bytes((whole[at] ^ 1 << draw.randrange(8),)) + whole[at + 1 :],
        ])  # fmt: skip
        try:
            if json.loads(changed) == same and changed.count(b'"') == whole.count(b'"'):
                continue
        except (ValueError, RecursionError):
            pass
        with pytest.raises(REFUSED):
            proof.check(changed)
        refused += 1
    assert refused > 300


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(value, dict | list):
        yield from ((*path, name) for name in (value if isinstance(value, dict) else range(len(value))))
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(one, (*path, name))


def put(whole: Proof, path: Path, value: Any) -> Any:
    """A copy with something else at the path; `...` takes it out."""
    copied: Any = json.loads(json.dumps(whole))
    inside = copied
    for name in path[:-1]:
        inside = inside[name]
    if value is ...:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return copied


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_field_anywhere(kind: str) -> None:
    """Every field and item of the file: another digit, another type, nothing, not there."""
    whole = json.loads(content(kind))
    for path in leaves(whole):
        old: Any = whole
        for name in path:
            old = old[name]
        for new in [..., None, True, -1, 1.0, 10**40, "", "0x", "zz", [], {}, [old], *others(old)]:
            if path in (("transaction_hash",), ("log",)) and new is ... and kind != "xrpl":
                continue  # a proof without it states less; its nodes tell (test_nodes_that_prove_nothing…)
            if new != old or type(new) is not type(old):
                with pytest.raises(REFUSED):
                    proof.check(json.dumps(put(whole, path, new)).encode())


def others(old: Any) -> Iterator[Any]:
    if isinstance(old, str) and old:
        last = "0123456789ABCDEF" if old.isupper() else "0123456789abcdef"
        yield from (
            old[:-1] + next(one for one in last if one != old[-1]),
            old[:-2],
            old + "00",
            old.swapcase(),
        )
    elif isinstance(old, int):
        yield from (old + 1, old - 1, str(old))
    elif isinstance(old, list):
        yield from ([*old, *old[-1:], None], old[1:])
    elif isinstance(old, dict):
        yield {**old, "more": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_known_is_refused(kind: str) -> None:
    whole = json.loads(content(kind))
    for name in ("comment", "chain", "metadata2", "receipt", ""):
        with pytest.raises(NotAProof, match="not known here"):
            proof.check(json.dumps({**whole, name: 1}).encode())
    twice = content(kind).replace(b'"version": 1,', b'"version": 1, "version": 1,')
    with pytest.raises(NotAProof, match="twice"):
        proof.check(twice)


@pytest.mark.parametrize(
    "hostile",
    [
        b"", b"{}", b"[]", b"null", b"1", b'"tidebook-proof"', b"\xff\xfe", b"{", b"NaN", b'{"format": NaN}',
        b"[" * 100_000, b'{"a":' * 100_000, b"1" * 100_000, b'{"format": "tidebook-proof"}',
        b'{"format": "tidebook-proof", "version": 2, "kind": "xrpl"}', b'{"format": ["tidebook-proof"], "version": 1}',
        b'{"format": "tidebook-proof", "version": true}', b'{"format": "tidebook-proof", "version": 1.0}',
        b'{"format": "tidebook-proof", "version": 1, "kind": []}',
        b'{"format": "tidebook-proof", "version": 1, "kind": "btc"}',
        b'{"format": "tidebook-proof", "version": ' + b"9" * 4000 + b"}", b'{"format": "\\ud800", "version": 1}',
    ],
)  # fmt: skip
def test_hostile_files_end_in_one_line(hostile: bytes) -> None:
    with pytest.raises(NotAProof) as error:
        proof.check(hostile)
    assert "\n" not in str(error.value) and 0 < len(str(error.value)) < 300


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_values_end_in_one_line(kind: str) -> None:
    whole = json.loads(content(kind))
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    for name in whole:
        for value in (
            deep,
            "F" * 2_000_000,
            "\ud800",
            "\n\n",
            10**3000,
            [0] * 100_000,
            {"0": 1},
            [{"0": deep}],
        ):
            with pytest.raises(REFUSED) as error:
                proof.check(json.dumps({**whole, name: value}).encode())
            assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_huge_file_is_not_read() -> None:
    with pytest.raises(NotAProof, match="64 MB"):
        read(b" " * (BYTES_MAX + 1))
