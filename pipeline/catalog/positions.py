"""Event types of positions.events.v1 (S1)."""

from typing import Final

from pipeline.domain.applications.event import AppTopic, AppType, table
from pipeline.domain.positions import attestation, lifecycle, registry
from pipeline.domain.positions.impersonal import impersonal

ROWS: Final = (
    AppType(
        "INSTITUTION_REGISTERED",
        "institution_registered",
        registry.institution_registered,
        registry.check_institution,
        service=True,
    ),
    AppType(
        "ASSET_TEMPLATE_REGISTERED",
        "asset_template_registered",
        registry.template_registered,
        registry.check_template,
        service=True,
    ),
    AppType(
        "POSITION_ASSET_REGISTERED",
        "position_asset_registered",
        registry.asset_registered,
        registry.check_asset,
        service=True,
    ),
    AppType("POSITION_CREATED", "position_created", lifecycle.created, lifecycle.check_created),
    AppType(
        "POSITION_STATE_CHANGED",
        "position_state_changed",
        lifecycle.changed,
        lifecycle.check_changed,
    ),
    AppType(
        "ATTESTATION_CONFIRMED",
        "attestation_confirmed",
        attestation.confirmed,
        attestation.check_confirmed,
        service=True,
    ),
)

POSITIONS: Final = AppTopic(
    "positions.events.v1",
    "positions",
    registry.KEY,
    table(map(impersonal(registry.KEY), ROWS)),
    id_prefix="led_",
)
