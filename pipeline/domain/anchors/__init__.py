"""S4's flows as applications tell them: accounts, authorizations of anchors, payments, escrows, settlements.

Seed: S4 (TigerBeetle Ledger Schema). Each event asks the books for one flow of pipeline.domain.flows; the states here
say who may, in what order and until when, and remember what an event refers to. docs/decisions/0005 and 0011.
"""
