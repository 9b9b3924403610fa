-- S1's compliance export, part 2 of 4, state changes: every applied step of every position, oldest first, with the state
-- before and after, why, who asked for it, and whose position it is. amount: of the position. amount_released: what the
-- step paid out of the escrow by the books' transfer, also where the event names no amount; empty where it paid out nothing.
-- Both are exact, in the currency's unit.
-- from: first day (UTC). to: last day, included.
-- Example: SELECT at, position_id, previous_state, new_state, reason FROM compliance_state_changes(from = '2026-01-01', to = '2026-01-31')
SELECT
  e.at AS at,
  e.event_id AS event_id,
  e.position_id AS position_id,
  p.institution_id AS institution_id,
  p.asset_id AS asset_id,
  p.holder_reference AS holder_reference,
  p.currency AS currency,
  p.amount AS amount,
  nullIf(toString(e.previous_state), '') AS previous_state,
  toString(e.new_state) AS new_state,
  JSONExtractString(e.payload, 'reason') AS reason,
  nullIf(m.amount, 0) AS amount_released,
  JSONExtract(e.payload, 'recipient', 'Nullable(String)') AS recipient,
  JSONExtract(e.payload, 'invoice_reference', 'Nullable(String)') AS invoice_reference,
  e.user_id AS user_id,
  toString(e.client) AS client,
  e.recorded_at AS recorded_at,
  e._topic AS _topic, e._partition AS _partition, e._offset AS _offset, e._epoch AS _epoch
FROM (
  SELECT * FROM position_events FINAL
  WHERE kind IN ('POSITION_CREATED', 'POSITION_STATE_CHANGED') AND at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
    AND (position_id, event_id) IN (
      SELECT key, event_id FROM applied_events
      WHERE topic = 'positions.events.v1' AND at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
    )
) AS e
LEFT JOIN positions AS p ON p.id = e.position_id
LEFT JOIN (
  SELECT
    splitByChar(':', t.event_id)[-1] AS event_id,
    toDecimal256(t.amount, 18) / transform(
      replaceOne(toString(t.asset), 'offchain/', ''), ['USD', 'EUR', 'GBP', 'BTC', 'ETH', 'USDC', 'USDT'],
      [100, 100, 100, 100000000, 1000000000000000000, 1000000, 1000000], 1
    ) AS amount
  FROM transfers AS t FINAL
  WHERE t.chain_number = 0 AND t.status = 'posted' AND t.code = 21
    AND startsWith(t.event_id, 'app:positions.events.v1:') AND match(t.asset, '^offchain/[^:]+$')
    AND t.time >= toDateTime64({from:Date}, 3, 'UTC') AND t.time < toDateTime64({to:Date} + 1, 3, 'UTC')
) AS m ON m.event_id = e.event_id
ORDER BY at, recorded_at, _offset
