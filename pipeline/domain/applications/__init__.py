"""What applications tell: events of assets off chain, positions, tokens and anchors, and the rules of each.

An application's topic is one total order, as a chain's is. Its state is a fold over that order: a rule looks at
the states that an event names and answers with changes, with what it asks of the books, or with a refusal.
docs/decisions/0011-applications.md.
"""
