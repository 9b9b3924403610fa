"""What the node itself answers, pinned at one block: what books, state and history are compared with.

Nothing here decodes a log or a block: balances come from the contracts' own functions, gas from the receipts,
and who paid what is their sum. A truth names the block's hash before and after it asks; a chain that moved
meanwhile is an AssertionError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from web3 import Web3
from web3.contract import Contract

from tests.support.evm_chain import Chain, keys
from tests.support.evm_scenario import FUNGIBLE, NFTS, TOKEN_IDS, World, factory_tokens

Json = dict[str, Any]
COLLECTOR = Web3.to_checksum_address(f"0x{0xFEE:040x}")  # takes the fees of FeeOnTransfer


@dataclass(frozen=True)
class Gas:
    """What an address paid for its transactions; wei, `gas_used` in gas. fee = burnt + tips + blob_fee."""

    transactions: int = 0
    failed: int = 0
    gas_used: int = 0
    burnt: int = 0  # base fee · gas used
    tips: int = 0
    blob_fee: int = 0

    @property
    def fee(self) -> int:
        return self.burnt + self.tips + self.blob_fee

    def __add__(self, other: Gas) -> Gas:
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in _GAS_PARTS})


_GAS_PARTS = tuple(Gas.__dataclass_fields__)


@dataclass(frozen=True)
class Truth:
    """One block's state. Addresses in lower case, zero balances left out, amounts in the smallest unit.

    `balances`, `supply`: by token contract; `multi`: ERC-1155 by (holder, id); `owners`: by ERC-721 contract and id;
    `gas`: by payer since block 1; `native`: wei by address; `control`: what the control contracts answer.
    """

    number: int
    hash: str
    balances: dict[str, dict[str, int]] = field(default_factory=dict)
    supply: dict[str, int] = field(default_factory=dict)
    multi: dict[tuple[str, int], int] = field(default_factory=dict)
    multi_supply: dict[int, int] = field(default_factory=dict)
    owners: dict[str, dict[int, str]] = field(default_factory=dict)
    gas: dict[str, Gas] = field(default_factory=dict)
    native: dict[str, int] = field(default_factory=dict)
    control: Json = field(default_factory=dict)


def truth(chain: Chain, world: World, number: int | None = None, holders: Iterable[str] = ()) -> Truth:
    """All of it at a block (default: the head). `holders`: further addresses to ask for."""
    number = chain.head if number is None else number
    before = _hash(chain, number)
    asked = sorted({*known_addresses(world), *(Web3.to_checksum_address(holder) for holder in holders)})
    tokens = [
        *(world.contracts[name] for name in (*FUNGIBLE, "weth", *NFTS)),
        *factory_tokens(chain, world, number),
    ]
    found = Truth(
        number=number,
        hash=before,
        balances={token.address.lower(): balances(chain, token, asked, number) for token in tokens},
        supply=_held(
            chain, number, {token.address.lower(): (token, "totalSupply", ()) for token in tokens}, zeros=True
        ),
        multi=multi_balances(chain, world.multi, asked, number),
        multi_supply=_held(chain, number, {i: (world.multi, "totalSupply", (i,)) for i in range(TOKEN_IDS)}),
        owners={
            world.contracts[name].address.lower(): owners(chain, world.contracts[name], number)
            for name in NFTS
        },
        gas=gas_by_payer(chain, 1, number),
        native=native_balances(chain, asked, number),
        control=control_state(world, number),
    )
    assert _hash(chain, number) == before, f"block {number} changed while the node was asked"
    return found


def known_addresses(world: World) -> set[str]:
    """Everybody a scenario pays: accounts, contracts, the addresses that nobody has, the fee collector."""
    nobody = {Web3.to_checksum_address(f"0x{i:040x}") for i in range(1, 5)}
    return (
        {key.address for key in keys()}
        | {found.address for found in world.contracts.values()}
        | nobody
        | {COLLECTOR}
    )


def balances(chain: Chain, token: Contract, holders: Iterable[str], block: int) -> dict[str, int]:
    """`balanceOf` of each holder, zeros left out. An ERC-721 answers how many it holds."""
    return _held(chain, block, {holder.lower(): (token, "balanceOf", (holder,)) for holder in holders})


def multi_balances(
    chain: Chain, multi: Contract, holders: Iterable[str], block: int
) -> dict[tuple[str, int], int]:
    """ERC-1155 `balanceOf` by (holder, id), zeros left out."""
    pairs = [(holder, token) for holder in holders for token in range(TOKEN_IDS)]
    return _held(chain, block, {(h.lower(), token): (multi, "balanceOf", (h, token)) for h, token in pairs})


def owners(chain: Chain, nft: Contract, block: int) -> dict[int, str]:
    """`ownerOf` each ERC-721 token that has one."""
    held = _held(chain, block, {token: (nft, "ownerOf", (token,)) for token in range(TOKEN_IDS)})
    return {token: f"0x{owner:040x}" for token, owner in held.items()}


def native_balances(chain: Chain, holders: Iterable[str], block: int) -> dict[str, int]:
    """Wei of each address, zeros left out."""
    asked = list(holders)
    answers = chain.anvil.batch([("eth_getBalance", [holder, hex(block)]) for holder in asked])
    pairs = zip(asked, answers, strict=True)
    return {holder.lower(): wei for holder, answer in pairs if (wei := int(answer["result"], 16))}


def gas_by_payer(chain: Chain, first: int, last: int) -> dict[str, Gas]:
    """Sums over the receipts of the blocks first..last, by sender in lower case."""
    paid: dict[str, Gas] = {}
    for number in range(first, last + 1):
        header = chain.anvil.block(number)
        assert header is not None, f"the node has no block {number}"
        for receipt in chain.anvil.receipts(number):
            payer = receipt["from"].lower()
            paid[payer] = paid.get(payer, Gas()) + gas_of(receipt, int(header["baseFeePerGas"], 16))
    return paid


def gas_of(receipt: Json, base_fee: int) -> Gas:
    """What one receipt says. anvil tells a blobGasPrice for every transaction, blobGasUsed only where blobs are."""
    used = int(receipt["gasUsed"], 16)
    blob_gas = int(receipt.get("blobGasUsed") or "0x0", 16)
    return Gas(
        transactions=1,
        failed=int(receipt["status"] == "0x0"),
        gas_used=used,
        burnt=base_fee * used,
        tips=(int(receipt["effectiveGasPrice"], 16) - base_fee) * used,
        blob_fee=blob_gas * int(receipt.get("blobGasPrice") or "0x0", 16),
    )


def control_state(world: World, block: int) -> Json:
    """Totals and flags of S2's contracts."""
    at = {"block_identifier": block}
    guard = world.MintGuard.functions
    return {
        "paused": world.SystemGuard.functions.isPaused().call(**at),
        "total_reserves_usd": world.ReserveRegistry.functions.totalReservesUsd().call(**at),
        "total_net_minted": guard.totalNetMinted().call(**at),
        "daily_minted_today": guard.dailyMintedToday().call(**at),
        "whitelisted": sorted(
            key.address.lower()
            for key in keys()
            if world.ComplianceRegistry.functions.isWhitelisted(key.address).call(**at)
        ),
    }


def _held(
    chain: Chain, block: int, calls: Mapping[Any, tuple[Contract, str, tuple[Any, ...]]], zeros: bool = False
) -> Any:
    """One word answered by each call, as an integer; zeros and calls that fail left out."""
    requests = [
        ("eth_call", [{"to": contract.address, "data": _call_data(function, args)}, hex(block)])
        for contract, function, args in calls.values()
    ]
    found = {}
    for key, answer in zip(calls, chain.anvil.batch(requests), strict=True):
        reverted = "error" in answer and "revert" in answer["error"]["message"]
        assert reverted or "result" in answer, f"{key}: {answer}"
        if not reverted and ((word := int(answer["result"], 16)) or zeros):
            found[key] = word
    return found


def _call_data(function: str, args: tuple[str | int, ...]) -> str:
    """A call whose arguments are addresses (text) and uint256 only; web3's own way takes half of a truth's time."""
    types = ",".join("address" if isinstance(arg, str) else "uint256" for arg in args)
    words = (int(arg, 16) if isinstance(arg, str) else arg for arg in args)
    return _selector(f"{function}({types})") + "".join(f"{word:064x}" for word in words)


@lru_cache(maxsize=64)
def _selector(signature: str) -> str:
    return "0x" + bytes(Web3.keccak(text=signature)[:4]).hex()


def _hash(chain: Chain, number: int) -> str:
    found = chain.anvil.block(number)
    assert found is not None, f"the node has no block {number}"
    return str(found["hash"])
