"""S3's catalogs, word by word: every event that the seed names is a type."""

from __future__ import annotations

import re

import pytest

from pipeline.catalog.tokens import TOKENS

SEED = {
    "operational": """AssociationCreated MemberCreated PatientApproved PrescriptionRegistered CultivationPlanCreated
        InputPurchased BatchCreated InventoryReceived InventoryReserved InventoryReleased DispensationRecorded
        QualityCheckPassed QualityCheckFailed""",
    "economic": """AccountOpened CreditIssued CreditRedeemed PurchaseOrderCreated PurchaseOrderShareIssued
        PurchaseOrderShareRedeemed EscrowLocked EscrowReleased ReputationUpdated GovernanceRightGranted VoteCast
        FeeCharged PaymentReceived BalanceAdjusted""",
    "risk": """RiskAssessmentRequested RiskScoreCalculated CreditLimitGranted CreditLimitReduced
        PaymentScheduleCreated PaymentDue PaymentLate CollectionNoticeSent PositionBlocked ProvisionCalculated
        DefaultRecorded""",
}


@pytest.mark.parametrize("catalog", SEED)
def test_every_event_of_the_seed_is_a_type(catalog: str) -> None:
    names = [re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper() for name in SEED[catalog].split()]
    assert [name for name in names if name not in TOKENS.types] == []
