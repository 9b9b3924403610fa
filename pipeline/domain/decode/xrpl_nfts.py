"""NFTs: who owned which before and after, from the difference of all NFTokenPages by owner.

Pages split, merge and hand tokens to each other, so one page alone says nothing. The owner of a page is the
first 160 bits of its index. A page whose PreviousFields lacks NFTokens kept its tokens (only links changed).
"""

from collections.abc import Mapping
from typing import Any

from pipeline.domain.decode.xrpl_address import encode_account


class NftOwners:
    """Tokens on the pages met so far: {NFTokenID: {AccountID: URI}} before and after."""

    __slots__ = ("after", "before")

    def __init__(self) -> None:
        self.before: dict[str, dict[str, str | None]] = {}
        self.after: dict[str, dict[str, str | None]] = {}

    def page(self, action: str, node: Mapping[str, Any]) -> None:
        """Reads one NFTokenPage node."""
        owner = node["LedgerIndex"][:40]
        if action == "created":
            _put(self.after, owner, (node.get("NewFields") or {}).get("NFTokens") or ())
            return
        previous = (node.get("PreviousFields") or {}).get("NFTokens")
        final = (node.get("FinalFields") or {}).get("NFTokens") or ()
        if action == "deleted":
            _put(self.before, owner, final if previous is None else previous)
        elif previous is not None:
            _put(self.before, owner, previous)
            _put(self.after, owner, final)

    def changes(self) -> list[dict[str, Any]]:
        """NftChange rows of schemas/xrpl/ledgers.avsc."""
        rows = []
        for nft_id in self.before.keys() | self.after.keys():
            before, after = self.before.get(nft_id, {}), self.after.get(nft_id, {})
            gone, come = before.keys() - after.keys(), after.keys() - before.keys()
            if not gone and not come:
                continue
            from_owner, to_owner = min(gone, default=None), min(come, default=None)
            uri = after[to_owner] if to_owner else before[from_owner] if from_owner else None
            rows.append(
                {
                    "nft_id": nft_id,
                    "from_owner": encode_account(from_owner) if from_owner else None,
                    "to_owner": encode_account(to_owner) if to_owner else None,
                    "uri": uri,
                }
            )
        rows.sort(key=lambda row: str(row["nft_id"]))
        return rows


def _put(side: dict[str, dict[str, str | None]], owner: str, tokens: Any) -> None:
    for item in tokens:
        token = item["NFToken"]
        nft_id, uri = token["NFTokenID"], token.get("URI")
        if not isinstance(nft_id, str) or not (uri is None or isinstance(uri, str)):
            raise ValueError("NFTokenID or URI is not a string")
        side.setdefault(nft_id, {})[owner] = uri
