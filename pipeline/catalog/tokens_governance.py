"""Event types of tokens.events.v1: S3's governance layer (circles, roles, proposals, contributions)."""

from typing import Final

from pipeline.domain.applications.event import AppType
from pipeline.domain.tokens.governance import (
    check_circle,
    check_granted,
    check_moved,
    check_revoked,
    check_role,
    circle_created,
    circle_moved,
    role_created,
    role_granted,
    role_revoked,
)
from pipeline.domain.tokens.governance_consent import (
    check_decision,
    check_objection,
    check_proposal,
    check_tension,
    decision_taken,
    objection_raised,
    proposal_made,
    tension_raised,
)
from pipeline.domain.tokens.governance_contributions import (
    check_distributed,
    check_entered,
    check_pool,
    check_reviewed,
    check_scored,
    compensation_distributed,
    compensation_pool_created,
    contribution_entered,
    contribution_reviewed,
    reputation_scored,
)

GOVERNANCE_ROWS: Final[tuple[AppType, ...]] = (
    AppType("CIRCLE_CREATED", "circle_created", circle_created, check_circle),
    AppType("CIRCLE_MOVED", "circle_moved", circle_moved, check_moved),
    AppType("ROLE_CREATED", "role_created", role_created, check_role),
    AppType("ROLE_GRANTED", "role_granted", role_granted, check_granted),
    AppType("ROLE_REVOKED", "role_revoked", role_revoked, check_revoked),
    AppType("TENSION_RAISED", "tension_raised", tension_raised, check_tension),
    AppType("PROPOSAL_MADE", "proposal_made", proposal_made, check_proposal),
    AppType("OBJECTION_RAISED", "objection_raised", objection_raised, check_objection),
    AppType("DECISION_TAKEN", "decision_taken", decision_taken, check_decision),
    AppType("CONTRIBUTION_ENTERED", "contribution_entered", contribution_entered, check_entered),
    AppType("CONTRIBUTION_REVIEWED", "contribution_reviewed", contribution_reviewed, check_reviewed),
    AppType("COMPENSATION_POOL_CREATED", "compensation_pool_created", compensation_pool_created, check_pool),
    AppType("COMPENSATION_DISTRIBUTED", "compensation_distributed", compensation_distributed, check_distributed),
    AppType("REPUTATION_SCORED", "reputation_scored", reputation_scored, check_scored, service=True),
)  # fmt: skip
