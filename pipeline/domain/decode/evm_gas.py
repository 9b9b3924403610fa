"""What a transaction cost: gas, blobs, data on L1; which part was burnt. Pure, in wei.

fee = gas_used × effective_gas_price + blob_gas_used × blob_gas_price + l1_fee (EIP-1559, EIP-4844, OP stack).
A failed transaction pays; a deposit of an OP chain pays nothing, though its receipt names an L1 fee. Burnt is
base fee × gas_used + blob fee on chains that burn. What is not known is None, never 0, and so is every sum of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pipeline.domain.decode.evm_values import LONG_LIMIT, quantity
from pipeline.domain.decode.xrpl_errors import Malformed

BLOB_TYPE: Final = 0x03
DEPOSIT_TYPES: Final = frozenset({0x7E})  # OP stack: bought on L1
CHAINS_THAT_BURN: Final = frozenset({1, 11155111, 17000, 560048, 31337})
"""Ethereum, Sepolia, Holesky, Hoodi, and the test chain of the usual tools."""


class Gas(NamedTuple):
    """Cost of one transaction."""

    gas_used: int | None
    effective_gas_price: int | None
    blob_gas_used: int | None
    blob_gas_price: int | None
    blob_fee: int | None  # None: has no blobs, or unknown (then `fee` is None too)
    l1_fee: int | None  # None: the receipt tells none
    fee: int | None
    burnt: int | None
    tip: int | None


def transaction_type(transaction: Mapping[str, Any], receipt: Mapping[str, Any]) -> int | None:
    """EIP-2718 type; None where neither tells it."""
    told = quantity(receipt, "type", 256)
    return told if told is not None else quantity(transaction, "type", 256)


def gas_of(
    transaction: Mapping[str, Any], receipt: Mapping[str, Any], base_fee: int | None, burns: bool | None
) -> Gas:
    """Cost of a transaction. `base_fee`: the block's, 0 where a known header has none, None where there is no
    header; `burns`: the chain's setting, None = unknown."""
    kind = transaction_type(transaction, receipt)
    used = quantity(receipt, "gasUsed", LONG_LIMIT)
    price = _price(transaction, receipt, base_fee)
    blob_used, blob_price = quantity(receipt, "blobGasUsed", LONG_LIMIT), quantity(receipt, "blobGasPrice")
    has_blobs = kind == BLOB_TYPE or bool(blob_used)
    blob_fee = blob_used * blob_price if blob_used is not None and blob_price is not None else None
    if kind in DEPOSIT_TYPES:
        return Gas(used, price, None, None, None, 0, 0, 0, 0)
    l1_fee = quantity(receipt, "l1Fee")
    if not has_blobs:
        blob_used = blob_price = blob_fee = None
    execution = used * price if used is not None and price is not None else None
    known = execution is not None and not (has_blobs and blob_fee is None)
    fee = (execution or 0) + (blob_fee or 0) + (l1_fee or 0) if known else None
    burnt = tip = None
    if base_fee is not None and used is not None:
        if burns and not (has_blobs and blob_fee is None):
            burnt = base_fee * used + (blob_fee or 0)
        elif burns is False:
            burnt = 0
        if price is not None:
            tip = (price - base_fee) * used
    return Gas(used, price, blob_used, blob_price, blob_fee, l1_fee, fee, burnt, tip)


def _price(transaction: Mapping[str, Any], receipt: Mapping[str, Any], base_fee: int | None) -> int | None:
    """effectiveGasPrice; where a receipt has none, what the transaction says."""
    told = quantity(receipt, "effectiveGasPrice")
    if told is not None:
        return told
    told = quantity(transaction, "gasPrice")
    if told is not None:
        return told  # of a mined transaction it is the price paid, whatever its type
    top, tip = quantity(transaction, "maxFeePerGas"), quantity(transaction, "maxPriorityFeePerGas")
    if top is None or tip is None or base_fee is None:
        return None
    return min(top, base_fee + tip)


def burns_by_evidence(
    transactions: list[Mapping[str, Any]], receipts: list[Mapping[str, Any]]
) -> bool | None:
    """Whether a recorded block's chain burns, where no setting says so: by the chain id its transactions
    name; not known (None) where it is another chain's or the receipts are of an OP chain; else Ethereum's rule.
    """
    try:
        chains = {quantity(one, "chainId") for one in transactions} - {None, 0}
        kinds = {quantity(one, "type") for one in receipts}
    except Malformed:
        return None
    if chains:
        return True if chains <= CHAINS_THAT_BURN else None
    rollup = not kinds.isdisjoint(DEPOSIT_TYPES) or any("l1Fee" in one for one in receipts)
    return None if rollup else True
