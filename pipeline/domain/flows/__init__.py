"""Off-chain flows: what deposits, payments, anchors, escrows and settlements ask of the books. Pure.

An event names a flow; `rules` turns it, with what the books already say, into one linked chain of
transfers, or refuses it. Its first transfer carries the event's own id, so the books themselves hold
each event's one answer: the id is free (undecided), stands (accepted) or is burnt (refused).

Source: seeds/S4 (TigerBeetle Ledger Schema), "Transfer Flows", "Two-Phase Commits", "Invariants
Checklist"; DESIGN.md, "Books"; docs/decisions/0005-offchain-books.md.
"""
