"""S1's positions: money in escrow that moves along one table of states, and the attestations of its steps.

Seed: S1 (Ledger Events Model). `registry` has institutions, templates, assets; `lifecycle` the positions; `attestation`
the dual ledger; `money` exact amounts of S1's and S4's currencies.
"""
