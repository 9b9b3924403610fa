"""The contracts of this folder, compiled with npm's solc: ABI and creation code, cached by what goes in.

The settings name the EVM version, no optimiser runs and no metadata hash is appended, so the same source gives
the same code, and with it the same chain, on every machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.support.anvil import cache, node_modules

CONTRACTS = Path(__file__).parent / "contracts"
EVM_VERSION = "cancun"


@dataclass(frozen=True)
class Artifact:
    """One compiled contract. `bytecode`: creation code, 0x hex, without the constructor's arguments."""

    name: str
    abi: list[dict[str, Any]]
    bytecode: str


@lru_cache(maxsize=1)
def artifacts() -> dict[str, Artifact]:
    """All contracts of contracts/*.sol that can be deployed, by name. Skips where there is no node."""
    packages = node_modules()
    request = json.dumps(_request(), sort_keys=True)
    made = (
        cache()
        / f"contracts-{hashlib.sha256((packages.parent.name + request).encode()).hexdigest()[:16]}.json"
    )
    with (cache() / "contracts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _write(made, json.dumps(compiled(packages, request)))
    return {name: Artifact(name, **known) for name, known in json.loads(made.read_text()).items()}


def compiled(packages: Path, request: str) -> dict[str, dict[str, Any]]:
    """solc's answer to a standard JSON request: name → abi, bytecode. AssertionError with its errors and warnings."""
    with tempfile.TemporaryFile("w+") as told:  # solc.js leaves before a pipe is empty
        done = subprocess.run(
            ["node", str(packages / "solc" / "solc.js"), "--standard-json"],
            input=request, stdout=told, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        told.seek(0)
        said = told.read()
    assert done.returncode == 0, f"solc did not run:\n{said[-1000:]}{done.stderr[-1000:]}"
    answer = json.loads(said[said.index("{") :])
    complaints = [error["formattedMessage"] for error in answer.get("errors", ())]
    assert not complaints, "solc complains:\n" + "\n".join(complaints)
    return {
        name: {"abi": found["abi"], "bytecode": "0x" + found["evm"]["bytecode"]["object"]}
        for contracts in answer["contracts"].values()
        for name, found in contracts.items()
        if found["evm"]["bytecode"]["object"]
    }


def _request() -> dict[str, Any]:
    return {
        "language": "Solidity",
        "sources": {file.name: {"content": file.read_text()} for file in sorted(CONTRACTS.glob("*.sol"))},
        "settings": {
            "evmVersion": EVM_VERSION,
            "metadata": {"bytecodeHash": "none", "appendCBOR": False},
            "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
        },
    }


def _write(file: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as draft:
        draft.write(text)
    Path(draft.name).rename(file)
