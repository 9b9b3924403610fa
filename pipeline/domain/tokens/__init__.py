"""Tokens: S3's token ledger, its operational, economic, risk, collections and governance events.

Facts about the world become positions and balances; the books keep every amount, states say what stands behind it.
seeds/S3-token-ledger.txt.
"""
