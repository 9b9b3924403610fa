"""Keys of EVM assets: `<chain>/<asset>`, as CAIP-19 writes them where it has a namespace for them.

    eip155:1/native                     the chain's native coin, in wei (gas only)
    eip155:1/erc20:0xa0b8…              a fungible token; wrapped native coins too
    eip155:1/erc721:0xbc4c…             a collection: a book, one unit a token
    eip155:1/erc721:0xbc4c…/771769      one token: what holdings are kept of
    eip155:1/erc1155:0x4d97…/42         one token id of a multi-token: a book of its own

Inside a block's message the part after the chain stands alone. Contracts are 0x and 40 lower-case hex digits,
token ids decimal.
"""

from __future__ import annotations

from typing import Final

NATIVE: Final = "native"


def asset_key(chain: str, asset: str) -> str:
    """Key of an asset that a block's message names."""
    return f"{chain}/{asset}"


def native_key(chain: str) -> str:
    """Key of an EVM chain's native coin."""
    return f"{chain}/{NATIVE}"


def book_key(chain: str, asset: str) -> str:
    """Key of the book that an asset's units stand in: the collection of an ERC-721 token, else the asset's."""
    return f"{chain}/{asset.partition('/')[0] if asset.startswith('erc721:') else asset}"


def contract_of(asset: str) -> str:
    """Contract in an asset (`erc20:0x…`) or an asset's key; "" for the native coin."""
    name = asset.rpartition("erc")[2]
    return name.partition(":")[2].partition("/")[0] if name != asset else ""
