-- By day (UTC) and application: what was done with its assets. Of applied events alone, each counted once by its id,
-- so that nothing told twice, refused or replayed changes a figure.
-- sales_volume: by currency, exact decimals. gas_required, gas_paid_by_treasury: by currency, in its smallest unit.
-- active_users: users who acted. social: events that change nothing.
-- Read from the roll-up activity_sums.
-- Recompute: SELECT toDate(at) AS day, if(e.app_id != '', toString(e.app_id), toString(r.app_id)) AS app_id, countIf(type = 'MINTED') AS minted, countIf(type = 'TRANSFERRED') AS transferred, countIf(type = 'FRACTIONED') AS fractioned, countIf(type = 'LISTED') AS listed, countIf(type = 'SOLD') AS sold, countIf(type IN ('BURNED', 'ONCHAIN_BURN')) AS burnt, countIf(social) AS social, uniqExactIf(user_id, user_id != '') AS active_users, sumMapIf(map(coin, toDecimal256OrZero(ifNull(e.price, ''), 18) * toDecimal256(ifNull(e.units, '1'), 0)), type = 'SOLD') AS sales_volume, sumMapIf(map(coin, toUInt256OrZero(JSONExtractString(payload, 'gas_required'))), startsWith(type, 'INTERNAL_GAS')) AS gas_required, sumMapIf(map(coin, toUInt256OrZero(JSONExtractString(payload, 'gas_paid_by_treasury'))), startsWith(type, 'INTERNAL_GAS')) AS gas_paid_by_treasury FROM (SELECT event_id, asset_id, at, app_id, type, user_id, ifNull(currency, '') AS coin, price, units, payload, false AS social FROM asset_transactions FINAL UNION ALL SELECT event_id, asset_id, at, app_id, type, user_id, '', NULL, NULL, '', true FROM asset_events FINAL) AS e LEFT JOIN (SELECT asset_id, app_id FROM asset_registry FINAL WHERE event_id IN (SELECT event_id FROM event_outcomes FINAL WHERE status = 'applied')) AS r USING (asset_id) WHERE e.event_id IN (SELECT event_id FROM event_outcomes FINAL WHERE status = 'applied') GROUP BY day, app_id
-- Example: SELECT day, minted, sold, sales_volume['XRP'] FROM asset_analytics WHERE app_id = 'mintlings' ORDER BY day
SELECT
  day,
  app_id,
  sumIf(a.events, type = 'MINTED') AS minted,
  sumIf(a.events, type = 'TRANSFERRED') AS transferred,
  sumIf(a.events, type = 'FRACTIONED') AS fractioned,
  sumIf(a.events, type = 'LISTED') AS listed,
  sumIf(a.events, type = 'SOLD') AS sold,
  sumIf(a.events, type IN ('BURNED', 'ONCHAIN_BURN')) AS burnt,
  sumIf(a.events, type IN (
    'SCANNED', 'STORY_ADDED', 'VIEWED', 'PACK_TAPPED', 'SOCIAL_ACTION', 'REACTION_ADDED', 'COMMENT_ADDED', 'SHARED'
  )) AS social,
  uniqExactArray(a.users) AS active_users,
  sumMapIf(map(currency, a.volume), type = 'SOLD') AS sales_volume,
  sumMapIf(map(currency, a.gas_required), startsWith(type, 'INTERNAL_GAS')) AS gas_required,
  sumMapIf(map(currency, a.gas_paid_by_treasury), startsWith(type, 'INTERNAL_GAS')) AS gas_paid_by_treasury
FROM activity_sums AS a
WHERE type NOT IN ('USER_REGISTERED', 'USER_ADDRESSES_CHANGED', 'APP_REGISTERED', 'ASSET_REGISTERED', 'CHAIN_OBSERVED')
GROUP BY day, app_id
