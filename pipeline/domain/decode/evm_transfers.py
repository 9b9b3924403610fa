"""What decoded logs moved: transfers by standard, and the balances that they change. Pure.

ERC-20 and ERC-721 share one topic: an indexed third argument is a token id. With nothing indexed the log
alone does not tell, so it is an amount unless the contract is declared as erc721. Wraps of the native coin
emit no Transfer but Deposit and Withdrawal; a contract that emits a mint or burn besides counts once.
Sources: ERC-20, ERC-721, ERC-1155, ERC-2309, WETH9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from pipeline.domain.decode.evm_contracts import STANDARDS, Contracts
from schemas.records import EvmBalanceChange, EvmLog, EvmTransfer, TokenStandard

ZERO_ADDRESS: Final = "0x" + "0" * 40
RANGE_MAX: Final = 5000  # tokens of one ERC-2309 range that are told singly, as many as OpenZeppelin mints

TRANSFERS_MAX: Final = 60_000  # of one transaction: a transfer id numbers 65,536 legs
Move = tuple[TokenStandard, str, str, str | None, str, str | None]  # standard, from, to, id, amount, operator


def transfers_of(logs: Sequence[EvmLog], contracts: Contracts) -> list[EvmTransfer]:
    """Transfers of one transaction's logs in their order. A log whose event says more than its arguments
    hold (a batch of unequal lists, a range too long), or more moves than ids can number, gets an `error` and moves
    nothing."""
    moved: list[EvmTransfer] = []
    wraps: list[EvmTransfer] = []
    for log in logs:
        reader = _READERS.get(log["signature"] or "")
        if reader is None:
            continue
        declared = contracts.standards(log["contract"])
        moves = reader(log, declared)
        if len(moved) + len(moves) > TRANSFERS_MAX:
            log["error"] = f"{log['signature']}: the transaction moves more than {TRANSFERS_MAX} times"
            continue
        for position, move in enumerate(moves):
            if move[0] in (declared if declared is not None else STANDARDS):
                transfer = _transfer(log, position, move)
                moved.append(transfer)
                if move[0] == "weth":
                    wraps.append(transfer)
    return _without_doubles(moved, wraps) if wraps else moved


def _transfer(log: EvmLog, position: int, move: Move) -> EvmTransfer:
    standard, source, target, token_id, amount, operator = move
    contract = log["contract"]
    name = "erc20" if standard == "weth" else standard
    return {
        "log_index": log["log_index"],
        "batch_position": position,
        "standard": standard,
        "contract": contract,
        "asset": f"{name}:{contract}" if token_id is None else f"{name}:{contract}/{token_id}",
        "operator": operator,
        "from_address": source,
        "to_address": target,
        "token_id": token_id,
        "amount": amount,
    }


def _without_doubles(moved: list[EvmTransfer], wraps: list[EvmTransfer]) -> list[EvmTransfer]:
    """Leaves out each wrap that a Transfer from or to 0x0 of the same contract and amount tells too."""

    def side(one: EvmTransfer) -> tuple[str, str, str, str]:
        return one["contract"], one["from_address"], one["to_address"], one["amount"]

    told = [side(one) for one in moved if one["standard"] == "erc20"]
    doubles = set()
    for wrap in wraps:
        if side(wrap) in told:
            told.remove(side(wrap))
            doubles.add(id(wrap))
    return [one for one in moved if id(one) not in doubles]


def _transfer_event(log: EvmLog, declared: frozenset[str] | None) -> list[Move]:
    source, target, value = (arg["value"] for arg in log["args"])
    single = len(log["topics"]) == 4
    if single or (declared is not None and "erc721" in declared and "erc20" not in declared):
        if not single and len(log["topics"]) != 1:
            return []  # an amount beside the token id's place: not of this standard
        return [("erc721", source, target, value, "1", None)]
    return [("erc20", source, target, None, value, None)]


def _transfer_single(log: EvmLog, _: frozenset[str] | None) -> list[Move]:
    operator, source, target, token_id, amount = (arg["value"] for arg in log["args"])
    return [("erc1155", source, target, token_id, amount, operator)]


def _transfer_batch(log: EvmLog, _: frozenset[str] | None) -> list[Move]:
    operator, source, target, listed, amounts = (arg["value"] for arg in log["args"])
    ids, values = orjson.loads(listed), orjson.loads(amounts)
    if len(ids) != len(values):
        log["error"] = f"{log['signature']}: {len(ids)} ids and {len(values)} values"
        return []
    return [
        ("erc1155", source, target, token_id, amount, operator)
        for token_id, amount in zip(ids, values, strict=True)
    ]


def _consecutive(log: EvmLog, _: frozenset[str] | None) -> list[Move]:
    first, last, source, target = (arg["value"] for arg in log["args"])
    count = int(last) - int(first) + 1
    if not 0 < count <= RANGE_MAX:
        log["error"] = f"{log['signature']}: a range of {count} tokens is not told singly"
        return []
    return [("erc721", source, target, str(int(first) + place), "1", None) for place in range(count)]


def _deposit(log: EvmLog, _: frozenset[str] | None) -> list[Move]:
    if len(log["topics"]) != 2:
        return []
    account, amount = (arg["value"] for arg in log["args"])
    return [("weth", ZERO_ADDRESS, account, None, amount, None)]


def _withdrawal(log: EvmLog, _: frozenset[str] | None) -> list[Move]:
    if len(log["topics"]) != 2:
        return []
    account, amount = (arg["value"] for arg in log["args"])
    return [("weth", account, ZERO_ADDRESS, None, amount, None)]


_READERS: Final[dict[str, Callable[[EvmLog, frozenset[str] | None], list[Move]]]] = {
    "Transfer(address,address,uint256)": _transfer_event,
    "TransferSingle(address,address,address,uint256,uint256)": _transfer_single,
    "TransferBatch(address,address,address,uint256[],uint256[])": _transfer_batch,
    "ConsecutiveTransfer(uint256,uint256,address,address)": _consecutive,
    "Deposit(address,uint256)": _deposit,
    "Withdrawal(address,uint256)": _withdrawal,
}


def book_asset(transfer: EvmTransfer | Any) -> str:
    """Asset by whose units balances count: the collection of an ERC-721 token, else the transfer's asset."""
    asset: str = transfer["asset"]
    return asset.partition("/")[0] if transfer["standard"] == "erc721" else asset


def balance_changes_of(transfers: Sequence[EvmTransfer]) -> list[EvmBalanceChange]:
    """One row per (account, asset) whose balance changed, in the order first met; 0x0 holds nothing."""
    sums: dict[tuple[str, str], int] = {}
    for transfer in transfers:
        asset, amount = book_asset(transfer), int(transfer["amount"])
        for account, change in ((transfer["from_address"], -amount), (transfer["to_address"], amount)):
            if account != ZERO_ADDRESS:
                sums[account, asset] = sums.get((account, asset), 0) + change
    return [
        {"account": account, "asset": asset, "change": str(change), "opening": None, "partial": False}
        for (account, asset), change in sums.items()
        if change
    ]
