"""What accounts held before a contract's books begin: `balanceOf`, pinned at the block before its start block.

A log tells a change and no balance. If there was no code before the start block, the books know the contract's whole
life (`complete`); else a node that keeps old states is asked for each account that is met (`opened`); where none
does, the accounts' rows say so (`partial`) and no proof counts them. That block is final whenever it is asked here,
so answers never change and are kept.

Which state a node refuses it says in words of its own. What is no known text is asked again, then told apart by
control questions: another account at that block, and the newest block. A node that can't be reached has refused
nothing: that error goes to the caller, who waits.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Literal

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from pipeline.domain.decode.evm_transfers import ZERO_ADDRESS
from pipeline.domain.evm_asset import contract_of
from pipeline.ingest.evm.errors import (
    Busy,
    Missing,
    NodeError,
    NoNode,
    OtherChain,
    Unreachable,
    Unusable,
    Wrong,
)
from pipeline.ingest.evm.watch import Known, Watched
from schemas.records import EvmBalanceChange, EvmTransaction

Ask = Callable[[str, list[Any]], Awaitable[Any]]
Verdict = Literal["reverted", "gone", "unknown"]
BALANCE_OF: Final = "0x70a08231"  # balanceOf(address): ERC-20, ERC-721
BALANCE_OF_ID: Final = "0x00fdd58e"  # balanceOf(address,uint256): ERC-1155
KEPT: Final = 200_000  # balances; some 60 MB
PARALLEL: Final = 16
ATTEMPTS: Final = 3

_REVERTED: Final = (
    "revert", "invalid opcode", "invalidfe", "out of gas", "outofgas", "stack underflow", "stack overflow",
    "stack limit", "invalid jump", "bad jump", "bad instruction", "invalid instruction", "undefined instruction",
    "vm execution error", "vm exception", "gas uint64 overflow", "gas required exceeds", "write protection",
)  # fmt: skip
_GONE: Final = (
    "missing trie node", "prun", "state not available", "state is not available", "state unavailable",
    "no state", "historical state", "historic state", "state histories", "world state", "find state", "archive",
    "proof window", "old data not available", "header not found", "block not found", "unknown block",
    "out of range", "outofrange", "not available", "too old", "does not exist",
)  # fmt: skip
_NO_ANSWER: Final = (Unreachable, Busy, OtherChain, Wrong, Unusable)


class _Unclear(Exception):
    """A node refused in words that are not known."""


class _Gone(Exception):
    """No node keeps the state that was asked for; the text says what was said."""


class _Reverted(Exception):
    """The call itself fails."""


def judge(error: NodeError, method: str) -> Verdict:
    """What a node's refusal of `method` at a block says: the call fails there, the state is not kept, or neither."""
    text = str(error).rpartition(f"{method}: ")[2].lower()
    if any(word in text for word in _REVERTED) or text.startswith("3 "):
        return "reverted"  # first: its reason is free text
    return "gone" if any(word in text for word in _GONE) else "unknown"


class Openings:
    """Balances before the books of one chain's contracts begin.

    `ask(method, params)`: the result, of whichever node has it. Raises NodeError; Unreachable or Busy (or NoNode)
    where a node that might have it could not be asked.
    """

    def __init__(self, ask: Ask, *, kept: int = KEPT, parallel: int = PARALLEL, pause_s: float = 0.5) -> None:
        self._ask, self._kept, self._pause_s = ask, kept, pause_s
        self._gate = asyncio.Semaphore(parallel)
        self._balances: OrderedDict[tuple[str, str, int], int | None] = OrderedDict()

    async def coverage(self, contract: Known) -> Literal["complete", "opened", "partial"]:
        """How much of a contract's life the books can know. `start_block` − 1 must be final. Raises NodeError,
        NoNode."""
        if not contract.has_balances or contract.start_block == 0:
            return "complete"
        before = contract.start_block - 1
        try:
            if not await self._has_code(contract.address, before):
                return "complete"
        except _Gone:
            return "complete" if await self._made_in(contract) else "partial"
        try:
            await self._state("eth_call", [_call(contract.address, _probe(contract))], before)
        except _Reverted:
            return "opened"  # the state is there; rows of accounts that it fails for are partial
        except _Gone:
            return "partial"
        return "opened"

    async def fill(self, transactions: Iterable[EvmTransaction], watched: Watched) -> None:
        """Put `opening` or `partial` into the balance changes of contracts that are older than their books.

        Raises NodeError or NoNode if it can't be asked now; then the transactions are half filled, and may be
        filled again. ValueError for a contract whose coverage is not known yet.
        """
        wanted: dict[tuple[str, str, int], list[EvmBalanceChange]] = {}
        for transaction in transactions:
            for row in transaction["balance_changes"]:
                before = self._before(row, watched)
                if before is not None:
                    wanted.setdefault((row["asset"], row["account"], before), []).append(row)
        found = await self._balances_of(list(wanted))
        for (key, rows), balance in zip(wanted.items(), found, strict=True):
            for row in rows:
                row["opening"], row["partial"] = (None, True) if balance is None else (str(balance), False)
            self._keep(key, balance)

    def _before(self, row: EvmBalanceChange, watched: Watched) -> int | None:
        """Block whose balance a row needs; None: none. Marks rows whose balance nobody tells."""
        known = watched.find(contract_of(row["asset"]))
        if known is None:  # nobody declared it: how old it is, is not known
            row["partial"] = watched.config.start_block > 0
        elif known.coverage == "unknown":
            raise ValueError(f"contract {known.address}: its coverage was not asked")
        elif known.coverage == "opened":
            return known.start_block - 1
        else:
            row["partial"] = known.coverage == "partial"
        return None

    def _keep(self, key: tuple[str, str, int], balance: int | None) -> None:
        self._balances[key] = balance
        self._balances.move_to_end(key)
        if len(self._balances) > self._kept:
            self._balances.popitem(last=False)

    async def _balances_of(self, keys: Sequence[tuple[str, str, int]]) -> list[int | None]:
        """Balances, side by side; the first error ends all."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._balance(key)) for key in keys]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _balance(self, key: tuple[str, str, int]) -> int | None:
        """What an account held of an asset after a block; None: the contract does not tell."""
        if key in self._balances:
            return self._balances[key]
        asset, account, number = key
        contract, _, token = asset.partition(":")[2].partition("/")
        try:
            async with self._gate:
                answer = await self._state("eth_call", [_call(contract, _balance_of(account, token))], number)
        except _Reverted:
            return None
        except _Gone as gone:
            raise NoNode(
                f"contract {contract}: no node that can be asked keeps the state of block {number} any more ({gone}); "
                "add an archive node to urls"
            ) from None
        return int(answer[2:66], 16) if len(answer) >= 66 else None

    async def _has_code(self, address: str, number: int) -> bool:
        try:
            return await self._state("eth_getCode", [address], number) not in ("0x", "0x0")
        except _Reverted:  # no call: somebody's odd text for a state that it lacks
            raise _Gone(f"eth_getCode of block {number}") from None

    async def _made_in(self, contract: Known) -> bool:
        """Whether a transaction of its start block itself made the contract: receipts are kept where states are not."""
        try:
            receipts = await self._ask("eth_getBlockReceipts", [hex(contract.start_block)])
        except (NodeError, Missing) as error:
            if isinstance(error, _NO_ANSWER):
                raise
            return False
        if not isinstance(receipts, list) or not all(isinstance(one, dict) for one in receipts):
            raise Wrong(
                "malformed", f"eth_getBlockReceipts of block {contract.start_block} gives no receipts"
            )
        return any(
            one.get("status") in ("0x1", 1) and str(one.get("contractAddress")).lower() == contract.address
            for one in receipts
        )

    # Asking for a state

    async def _state(self, method: str, params: list[Any], number: int) -> str:
        """Hex that a node answers of the state after a block. Raises _Gone, _Reverted, NodeError, NoNode."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Unclear), stop=stop_after_attempt(ATTEMPTS), reraise=True,
            wait=wait_exponential(self._pause_s, max=4 * self._pause_s),
        )  # fmt: skip
        try:
            async for attempt in retrying:
                with attempt:
                    return await self._asked(method, [*params, hex(number)])
        except _Unclear as unclear:
            return await self._told_apart(unclear, number)
        raise AssertionError("tenacity ended without an outcome")

    async def _asked(self, method: str, params: list[Any]) -> str:
        try:
            answer = await self._ask(method, params)
        except Missing as error:
            raise _Gone(str(error)) from None
        except NodeError as error:
            verdict = judge(error, method)
            if verdict == "reverted" and method == "eth_call" and not isinstance(error, Unreachable):
                raise _Reverted(str(error)) from None
            if isinstance(error, _NO_ANSWER):
                raise
            raise (_Unclear(str(error)) if verdict != "gone" else _Gone(str(error))) from error
        if not isinstance(answer, str) or not _is_hex(answer):
            raise Wrong("malformed", f"{method} is answered with what is no hex")
        return answer

    async def _told_apart(self, unclear: _Unclear, number: int) -> str:
        """Always raises: _Reverted if that block's state is told, _Gone if only the newest is, else the error."""
        if await self._tells(hex(number)):
            raise _Reverted(str(unclear))
        if await self._tells("latest"):
            raise _Gone(str(unclear))
        raise unclear.__cause__ or NoNode(str(unclear))

    async def _tells(self, block: str) -> bool:
        try:
            await self._ask("eth_getBalance", [ZERO_ADDRESS, block])
        except (NodeError, Missing) as error:
            if isinstance(error, _NO_ANSWER):
                raise
            return False
        return True


def _call(contract: str, data: str) -> dict[str, str]:
    return {"to": contract, "data": data}


def _balance_of(account: str, token: str) -> str:
    """Call data; `token`: id in decimal, "" where the contract has no ids."""
    owner = account.removeprefix("0x").rjust(64, "0")
    return f"{BALANCE_OF_ID}{owner}{int(token):064x}" if token else f"{BALANCE_OF}{owner}"


def _probe(contract: Known) -> str:
    """A call that any contract of its standard answers."""
    return _balance_of(f"0x{1:040x}", "0" if contract.declared.standards == {"erc1155"} else "")


def _is_hex(text: str) -> bool:
    return re.fullmatch("0x[0-9a-fA-F]*", text) is not None
