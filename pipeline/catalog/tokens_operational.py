"""Event types of tokens.events.v1: S3's operational catalog, facts about the world.

The operational core tells them, a client of scope service.
"""

from typing import Final

from pipeline.domain.applications.event import AppType
from pipeline.domain.tokens.operational import (
    association_created,
    check_association,
    check_member,
    check_patient,
    check_prescription,
    member_created,
    patient_approved,
    prescription_registered,
)
from pipeline.domain.tokens.operational_stock import (
    batch_created,
    check_batch,
    check_dispensation,
    check_failed,
    check_input,
    check_passed,
    check_plan,
    check_received,
    check_released,
    check_reserved,
    cultivation_plan_created,
    dispensation_recorded,
    input_purchased,
    inventory_received,
    inventory_released,
    inventory_reserved,
    quality_check_failed,
    quality_check_passed,
)

OPERATIONAL_ROWS: Final[tuple[AppType, ...]] = (
    AppType("ASSOCIATION_CREATED", "association_created", association_created, check_association, service=True),
    AppType("MEMBER_CREATED", "member_created", member_created, check_member, service=True),
    AppType("PATIENT_APPROVED", "patient_approved", patient_approved, check_patient, service=True),
    AppType("PRESCRIPTION_REGISTERED", "prescription_registered", prescription_registered,
            check_prescription, service=True),
    AppType("CULTIVATION_PLAN_CREATED", "cultivation_plan_created", cultivation_plan_created, check_plan, service=True),
    AppType("INPUT_PURCHASED", "input_purchased", input_purchased, check_input, service=True),
    AppType("BATCH_CREATED", "batch_created", batch_created, check_batch, service=True),
    AppType("INVENTORY_RECEIVED", "inventory_received", inventory_received, check_received, service=True),
    AppType("INVENTORY_RESERVED", "inventory_reserved", inventory_reserved, check_reserved, service=True),
    AppType("INVENTORY_RELEASED", "inventory_released", inventory_released, check_released, service=True),
    AppType("DISPENSATION_RECORDED", "dispensation_recorded", dispensation_recorded, check_dispensation, service=True),
    AppType("QUALITY_CHECK_PASSED", "quality_check_passed", quality_check_passed, check_passed, service=True),
    AppType("QUALITY_CHECK_FAILED", "quality_check_failed", quality_check_failed, check_failed, service=True),
)  # fmt: skip
