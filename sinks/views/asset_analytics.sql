-- By day (UTC) and application: what was done with its assets. Of applied events alone, each counted once by its id,
-- so that nothing told twice, refused or replayed changes a figure.
-- sales_volume: by currency, exact decimals. gas_required, gas_paid_by_treasury: by currency, in its smallest unit.
-- active_users: users who acted. social: events that change nothing.
-- Example: SELECT day, minted, sold, sales_volume['XRP'] FROM asset_analytics WHERE app_id = 'mintlings' ORDER BY day
SELECT
  day,
  app_id,
  countIf(type = 'MINTED') AS minted,
  countIf(type = 'TRANSFERRED') AS transferred,
  countIf(type = 'FRACTIONED') AS fractioned,
  countIf(type = 'LISTED') AS listed,
  countIf(type = 'SOLD') AS sold,
  countIf(type IN ('BURNED', 'ONCHAIN_BURN')) AS burnt,
  countIf(social) AS social,
  uniqExactIf(user_id, user_id != '') AS active_users,
  sumMapIf(map(currency, price), type = 'SOLD' AND currency != '') AS sales_volume,
  sumMapIf(map(currency, required), startsWith(type, 'INTERNAL_GAS')) AS gas_required,
  sumMapIf(map(currency, covered), startsWith(type, 'INTERNAL_GAS')) AS gas_paid_by_treasury
FROM (
  SELECT
    toDate(e.at) AS day,
    if(e.app_id != '', toString(e.app_id), toString(r.app_id)) AS app_id,
    toString(e.type) AS type,
    e.social AS social,
    ifNull(e.user_id, '') AS user_id,
    ifNull(e.currency, '') AS currency,
    ifNull(e.price_value, 0) * toDecimal256(ifNull(e.units, '1'), 0) AS price, -- a price is that of a unit
    toUInt256OrZero(JSONExtractString(e.payload, 'gas_required')) AS required,
    toUInt256OrZero(JSONExtractString(e.payload, 'gas_paid_by_treasury')) AS covered
  FROM (
    SELECT event_id, asset_id, at, app_id, type, user_id, currency, price_value, units, payload, false AS social
    FROM asset_transactions FINAL
    UNION ALL
    SELECT event_id, asset_id, at, app_id, type, user_id, NULL, NULL, NULL, '', true FROM asset_events FINAL
  ) AS e
  LEFT JOIN (SELECT asset_id, anyLast(app_id) AS app_id FROM asset_registry FINAL GROUP BY asset_id) AS r USING (asset_id)
  WHERE e.event_id IN (SELECT event_id FROM applied_events WHERE topic = 'assets.activity.v1')
  LIMIT 1 BY e.event_id
)
GROUP BY day, app_id
