-- S0's asset_states, with the registry's entry: every asset of the applications as it is now, one row each.
-- owner_user_id: beneficial owner; null where fractions are held by several (holdings: units of each) or nobody is known.
-- custody_type: onchain, managed or hybrid. listing, fraction_listings, pending: JSON, null for none.
-- By asset_id it is quick; for what a user owns take user_history.
-- Example: SELECT owner_user_id, custody_type, onchain_status FROM asset_states WHERE asset_id = 'card-1'
SELECT
  asset_id,
  now.1 AS version,
  now.2 AS asset_type,
  now.3 AS app_id,
  now.4 AS title,
  now.5 AS thumbnail_url,
  now.6 AS issuer_user_id,
  now.7 AS nfc_uuid,
  now.8 AS mpt_issuance_id,
  now.9 AS token,
  now.10 AS owner_user_id,
  now.11 AS custody_type,
  now.12 AS fraction_count,
  now.13 AS holdings,
  now.14 AS container_type,
  now.15 AS parent_container_id,
  now.16 AS contents,
  now.17 AS onchain_status,
  now.18 AS onchain_holder,
  now.19 AS listing,
  now.20 AS fraction_listings,
  now.21 AS burnt,
  now.22 AS minted,
  now.23 AS pending,
  now.24 AS last_event_id,
  now.25 AS last_updated_at
FROM (
  SELECT
    s.asset_id AS asset_id,
    argMax(s.gone, s.version) AS gone,
    argMax(
      (
        s.version, s.asset_type, s.app_id, s.title, s.thumbnail_url, s.issuer_user_id, s.nfc_uuid, s.mpt_issuance_id,
        s.token, s.owner_user_id, s.custody_type, s.fraction_count, s.holdings, s.container_type,
        s.parent_container_id, s.contents, s.onchain_status, s.onchain_holder, s.listing, s.fraction_listings,
        s.burnt, s.minted, s.pending, s.event_id, s.last_updated_at
      ), s.version
    ) AS now
  FROM asset_state_versions AS s
  GROUP BY asset_id
)
WHERE NOT gone
