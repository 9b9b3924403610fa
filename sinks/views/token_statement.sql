-- An account's statement: every movement of its tokens with the event that led to it, and what it had afterwards.
-- change is of `available` or `locked` (side); available and locked are the balances after the movement, exact.
-- occurred_at is the event's own time; movements stand in the order of the books (position).
-- Example: SELECT occurred_at, event_type, side, change, available FROM token_statement WHERE account_id = 'acc-ana' ORDER BY position
SELECT
  m.account_id AS account_id,
  m.token_type AS token_type,
  m.position AS position,
  m.time AS occurred_at,
  m.event_id AS event_id,
  e.type AS event_type,
  e.reference_type AS reference_type,
  e.reference_id AS reference_id,
  m.side AS side,
  toDecimal128(m.change, 6) / 1000000 AS change,
  toDecimal128(m.available, 6) / 1000000 AS available,
  toDecimal128(m.locked, 6) / 1000000 AS locked
FROM (
  SELECT
    account_id, token_type, position, time, event_id, side, change,
    sum(if(side = 'available', change, 0)) OVER upto AS available,
    sum(if(side = 'locked', change, 0)) OVER upto AS locked
  FROM (
    SELECT
      one.1 AS account_id,
      one.2 AS side,
      one.3 AS change,
      substring(asset, length('offchain/token:') + 1) AS token_type,
      (timestamp, leg) AS position,
      time,
      arrayElement(splitByChar(':', event_id), -1) AS event_id
    FROM transfers FINAL
    ARRAY JOIN arrayFilter(s -> s.2 != '', [
      (debit_owner, transform(debit_code, [1, 4], ['available', 'locked'], ''), -toInt128(amount)),
      (credit_owner, transform(credit_code, [1, 4], ['available', 'locked'], ''), toInt128(amount))
    ]) AS one
    WHERE startsWith(asset, 'offchain/token:') AND status = 'posted'
  )
  WINDOW upto AS (
    PARTITION BY account_id, token_type ORDER BY position, side DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
  )
) AS m
LEFT JOIN token_events AS e FINAL ON e.event_id = m.event_id
