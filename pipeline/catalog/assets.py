"""Event types of assets.activity.v1 (S0): registry, what chains tell, 15 kinds of transactions (and DELISTED and
ONCHAIN_CANCELLED, which end what two of them began), 8 kinds of social events."""

from typing import Final

from pipeline.domain.applications.event import AppTopic, AppType, table
from pipeline.domain.assets import (
    chain,
    checks,
    custody,
    figures,
    gas,
    market,
    ownership,
    packs,
    registry,
    social,
)

_ROWS: Final = (
    AppType(
        "USER_REGISTERED", "user_registered", registry.user_registered, checks.user_registered, service=True
    ),
    AppType(
        "USER_ADDRESSES_CHANGED",
        "user_addresses_changed",
        registry.user_addresses_changed,
        checks.user_addresses_changed,
        service=True,
    ),
    AppType("APP_REGISTERED", "app_registered", registry.app_registered, checks.app_registered, service=True),
    AppType(
        "ASSET_REGISTERED",
        "asset_registered",
        registry.asset_registered,
        checks.asset_registered,
        service=True,
    ),
    AppType("CHAIN_OBSERVED", "chain_observed", chain.chain_observed, checks.chain_observed, service=True),
    AppType("MINTED", "minted", ownership.minted, checks.minted),
    AppType("TRANSFERRED", "transferred", ownership.transferred, checks.transferred),
    AppType("FRACTIONED", "fractioned", ownership.fractioned, checks.fractioned),
    AppType("MERGED", "merged", ownership.merged),
    AppType("PACK_CREATED", "pack_created", packs.pack_created, checks.pack_created),
    AppType("PACK_OPENED", "pack_opened", packs.pack_opened),
    AppType("BURNED", "burned", ownership.burned),
    AppType("LISTED", "listed", market.listed, checks.priced),
    AppType("DELISTED", "delisted", market.delisted),
    AppType("SOLD", "sold", market.sold, checks.priced),
    AppType("INTERNAL_GAS_CHARGE", "internal_gas_charge", gas.gas_charge, checks.gas, service=True),
    AppType("INTERNAL_GAS_COVERAGE", "internal_gas_coverage", gas.gas_coverage, checks.gas, service=True),
    AppType("ONCHAIN_SEND", "onchain_send", custody.onchain_send, checks.onchain),
    AppType("ONCHAIN_RECEIVE", "onchain_receive", custody.onchain_receive, checks.onchain),
    AppType("ONCHAIN_BURN", "onchain_burn", custody.onchain_burn, checks.onchain),
    AppType("ONCHAIN_CANCELLED", "onchain_cancelled", custody.onchain_cancelled, checks.onchain),
    AppType("METADATA_UPDATED", "metadata_updated", registry.metadata_updated, checks.metadata_updated),
    AppType("SCANNED", "scanned", social.scanned, checks.social),
    AppType("STORY_ADDED", "story_added", social.social, checks.social),
    AppType("VIEWED", "viewed", social.social, checks.social),
    AppType("PACK_TAPPED", "pack_tapped", social.pack_tapped, checks.social),
    AppType("SOCIAL_ACTION", "social_action", social.social, checks.social),
    AppType("REACTION_ADDED", "reaction_added", social.social, checks.social),
    AppType("COMMENT_ADDED", "comment_added", social.social, checks.social),
    AppType("SHARED", "shared", social.social, checks.social),
)
ASSETS: Final = AppTopic("assets.activity.v1", "assets", "asset_id", table(_ROWS), figures=figures.of_applied)
