"""Event types of positions.events.v1 (S1)."""

from typing import Final

from pipeline.domain.applications.entry import new_id
from pipeline.domain.applications.event import AppTopic, AppType, table
from pipeline.domain.positions import attestation, lifecycle, registry
from pipeline.domain.positions.impersonal import impersonal

NEW_ID: Final = new_id(registry.KEY)
ROWS: Final = (
    AppType(
        "INSTITUTION_REGISTERED",
        "institution_registered",
        registry.institution_registered,
        registry.check_institution,
        service=True,
        entry=NEW_ID,
    ),
    AppType(
        "ASSET_TEMPLATE_REGISTERED",
        "asset_template_registered",
        registry.template_registered,
        registry.check_template,
        service=True,
        entry=NEW_ID,
    ),
    AppType(
        "POSITION_ASSET_REGISTERED",
        "position_asset_registered",
        registry.asset_registered,
        registry.check_asset,
        service=True,
        entry=NEW_ID,
    ),
    AppType("POSITION_CREATED", "position_created", lifecycle.created, lifecycle.check_created, entry=NEW_ID),
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
