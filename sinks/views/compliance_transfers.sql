-- S1's compliance export, part 1 of 4, money transfers: every transfer that the books posted in a currency of the
-- applications (positions, payments, deposits, anchors), oldest first, with the applied event that asked for it. Tokens
-- of S3, fractions and gas are no money and are left out; what chains moved: transfers.
-- kind: S4's name of the transfer. amount: exact, in the currency's unit; units: the same in its smallest unit.
-- position_id: the position whose escrow it touched, empty for none. from_type, to_type: S4's account types.
-- from: first day (UTC). to: last day, included.
-- Example: SELECT at, kind, currency, amount FROM compliance_transfers(from = '2026-01-01', to = '2026-01-31')
WITH
  [1, 2, 3, 4, 5, 6, 7] AS codes,
  ['USER', 'MERCHANT', 'TREASURY', 'ESCROW', 'FEE_POOL', 'ANCHOR', 'SYSTEM_BUFFER'] AS types
SELECT
  t.time AS at,
  t.transfer_id AS transfer_id,
  splitByChar(':', t.event_id)[-1] AS event_id,
  if(startsWith(t.event_id, 'app:'), splitByChar(':', t.event_id)[2], '') AS topic,
  toString(e.type) AS event_type,
  transform(
    t.code, [1, 2, 3, 4, 5, 10, 11, 12, 20, 21, 22, 30, 31],
    [
      'DEPOSIT', 'WITHDRAWAL', 'PAYMENT', 'REFUND', 'FEE', 'ANCHOR_AUTHORIZATION', 'ANCHOR_FULFILLMENT',
      'ANCHOR_EXPIRY', 'ESCROW_LOCK', 'ESCROW_RELEASE', 'ESCROW_VOID', 'SETTLEMENT', 'SETTLEMENT_REVERSAL'
    ], toString(t.code)
  ) AS kind,
  if(t.credit_code = 4, t.credit_subject, if(t.debit_code = 4, t.debit_subject, '')) AS position_id,
  transform(t.debit_code, codes, types, toString(t.debit_code)) AS from_type,
  t.debit_owner AS from_owner,
  transform(t.credit_code, codes, types, toString(t.credit_code)) AS to_type,
  t.credit_owner AS to_owner,
  replaceOne(t.asset, 'offchain/', '') AS currency,
  toDecimal256(t.amount, 18) / transform(
    currency, ['USD', 'EUR', 'GBP', 'BTC', 'ETH', 'USDC', 'USDT'],
    [100, 100, 100, 100000000, 1000000000000000000, 1000000, 1000000], 1
  ) AS amount,
  t.amount AS units,
  t._topic AS _topic, t._partition AS _partition, t._offset AS _offset, t._epoch AS _epoch
FROM (
  SELECT * FROM transfers FINAL
  WHERE chain_number = 0 AND status = 'posted' AND match(asset, '^offchain/[^:]+$')
    AND time >= toDateTime64({from:Date}, 3, 'UTC') AND time < toDateTime64({to:Date} + 1, 3, 'UTC')
) AS t
LEFT JOIN (
  SELECT topic, event_id, any(type) AS type FROM applied_events
  WHERE at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
    AND (topic, event_id) IN (
      SELECT splitByChar(':', told)[2], splitByChar(':', told)[-1] FROM (
        SELECT event_id AS told FROM transfers
        WHERE chain_number = 0 AND match(asset, '^offchain/[^:]+$')
          AND time >= toDateTime64({from:Date}, 3, 'UTC') AND time < toDateTime64({to:Date} + 1, 3, 'UTC')
      )
    )
  GROUP BY topic, event_id
) AS e ON e.topic = topic AND e.event_id = event_id
ORDER BY at, t.timestamp, t.leg
