"""Proof files of every kind: one door to check them, with nothing but the file."""

from __future__ import annotations

from typing import Any

from pipeline.domain import proof_evm, proof_xrpl
from pipeline.domain.proof_errors import Contradiction
from pipeline.domain.proof_form import NotAProof, read, short

_KINDS = {proof_xrpl.KIND: proof_xrpl.check, proof_evm.KIND: proof_evm.check}


def check(content: bytes, block_hash: str | None = None) -> dict[str, Any]:
    """What the file proves, as the `check` of its kind tells it.

    `block_hash`: the block that it must lead to, in hex of any case, with or without 0x. Raises NotAProof,
    Contradiction where anything does not fit, Unprovable where what is proven can't be read.
    """
    proof = read(content)
    kind = proof.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise NotAProof(f"it is of kind {short(kind)}; there are {', '.join(_KINDS)}")
    told = _KINDS[kind](proof)
    if block_hash is not None and bare(block_hash) != bare(told["block_hash"]):
        raise Contradiction("block_hash", f"it leads to block {told['block_hash']}, not {block_hash}")
    return told


def bare(name: str) -> str:
    """A hash to compare: digits alone, in lower case."""
    return name.lower().removeprefix("0x")
