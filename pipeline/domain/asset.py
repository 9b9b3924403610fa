"""Asset keys: one text that names an asset everywhere, `<chain>/<asset>`.

On the XRP Ledger the asset is `XRP` (any network's native coin), `<currency>.<issuer>`,
`mpt:<issuance id>`, `nft:<issuer>:<taxon>` (the collection, which is a book) or `nft:<NFTokenID>`
(one token, which is what holdings are kept of).

Bit layouts: XLS-20 (NFTokenID), XLS-33 (MPT issuance id).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from xrpl.core.addresscodec import encode_classic_address

NATIVE = "XRP"


class NftId(NamedTuple):
    """What an NFTokenID says: 2 bytes flags, 2 transfer fee, 20 issuer, 4 scrambled taxon, 4 serial."""

    flags: int
    transfer_fee: int
    issuer: str
    taxon: int
    serial: int


@lru_cache(maxsize=65536)
def _address(account_hex: str) -> str:
    return str(encode_classic_address(bytes.fromhex(account_hex)))


@lru_cache(maxsize=65536)
def parse_nft_id(nft_id: str) -> NftId:
    """Read an NFTokenID (64 hex digits). Raises ValueError for anything else."""
    if len(nft_id) != 64:
        raise ValueError(f"an NFTokenID has 64 hex digits, not {len(nft_id)}: {nft_id!r}")
    serial = int(nft_id[56:], 16)
    taxon = int(nft_id[48:56], 16) ^ ((384160001 * serial + 2459) % (1 << 32))
    return NftId(int(nft_id[:4], 16), int(nft_id[4:8], 16), _address(nft_id[8:48]), taxon, serial)


def mpt_issuer(issuance: str) -> str:
    """Issuer of an MPT issuance id (48 hex digits: 4 bytes sequence, 20 bytes account)."""
    return _address(issuance[8:48])


def native_key(chain: str) -> str:
    """Key of a chain's native coin."""
    return f"{chain}/{NATIVE}"


def collection_key(chain: str, nft_id: str) -> str:
    """Key of the collection (issuer, taxon) that an NFT belongs to."""
    nft = parse_nft_id(nft_id)
    return f"{chain}/nft:{nft.issuer}:{nft.taxon}"
