-- S1's compliance export, part 4 of 4, regulatory report: one row per institution, its region and currency: what it took
-- on, paid in, released and gave back within the period, what was refused, and what its escrows held at the end.
-- created, amount_created: positions created. funded, released, voided: by the books' transfers of its positions' escrows.
-- cancelled, expired: positions that ended so. refused: steps of its positions that the rules refused.
-- open_at_end: positions neither released, cancelled nor expired by the last step that was taken up to the last day.
-- held_at_end: what escrows held by the books: all funded - released - voided since the beginning, up to the last day.
-- Below 0 where a release's own time lies before that of its funding, and the last day between them.
-- Transfers of the books: codes 20 into an escrow, 21 out to the recipient, 22 back to the funder.
-- Amounts are exact, in the currency's unit.
-- from: first day (UTC). to: last day, included.
-- Example: SELECT institution_id, currency, funded, released, held_at_end FROM compliance_regulatory(from = '2026-01-01', to = '2026-01-31')
SELECT
  p.institution_id AS institution_id,
  any(i.region) AS region,
  p.currency AS currency,
  sum(s.created) AS created,
  sumIf(p.amount, s.created > 0) AS amount_created,
  sum(m.funded) AS funded,
  sum(m.released) AS released,
  sum(m.voided) AS voided,
  sum(s.cancelled) AS cancelled,
  sum(s.expired) AS expired,
  sum(r.refused) AS refused,
  countIf(p.state NOT IN ('RELEASED', 'CANCELLED', 'EXPIRED')) AS open_at_end,
  sum(m.held) AS held_at_end
FROM (
  SELECT
    id,
    JSONExtractString(now, 'institution_id') AS institution_id,
    JSONExtractString(now, 'currency') AS currency,
    toDecimal256(JSONExtractString(now, 'amount'), 18) AS amount,
    JSONExtractString(now, 'state') AS state
  FROM (
    SELECT s.id AS id, argMax(s.value, s.version) AS now FROM application_states AS s
    WHERE s.domain = 'positions' AND s.kind = 'position' AND s.at < toDateTime64({to:Date} + 1, 3, 'UTC')
    GROUP BY id
  )
) AS p
LEFT JOIN (
  SELECT
    position_id, countIf(new_state = 'CREATED') AS created, countIf(new_state = 'CANCELLED') AS cancelled,
    countIf(new_state = 'EXPIRED') AS expired
  FROM compliance_state_changes(from = {from:Date}, to = {to:Date})
  GROUP BY position_id
) AS s ON s.position_id = p.id
LEFT JOIN (
  WITH
    t.time >= toDateTime64({from:Date}, 3, 'UTC') AS within,
    toDecimal256(t.amount, 18) / transform(
      replaceOne(toString(t.asset), 'offchain/', ''), ['USD', 'EUR', 'GBP', 'BTC', 'ETH', 'USDC', 'USDT'],
      [100, 100, 100, 100000000, 1000000000000000000, 1000000, 1000000], 1
    ) AS money
  SELECT
    if(t.code = 20, t.credit_subject, t.debit_subject) AS position_id, sumIf(money, t.code = 20 AND within) AS funded,
    sumIf(money, t.code = 21 AND within) AS released, sumIf(money, t.code = 22 AND within) AS voided,
    sumIf(money, t.code = 20) - sumIf(money, t.code IN (21, 22)) AS held
  FROM transfers AS t FINAL
  WHERE t.chain_number = 0 AND t.status = 'posted' AND t.code IN (20, 21, 22)
    AND startsWith(t.event_id, 'app:positions.events.v1:') AND match(t.asset, '^offchain/[^:]+$')
    AND t.time < toDateTime64({to:Date} + 1, 3, 'UTC')
  GROUP BY position_id
) AS m ON m.position_id = p.id
LEFT JOIN (
  SELECT key, count() AS refused FROM event_outcomes FINAL
  WHERE topic = 'positions.events.v1' AND status = 'refused'
    AND at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
  GROUP BY key
) AS r ON r.key = p.id
LEFT JOIN (
  SELECT id, JSONExtractString(value, 'region') AS region FROM application_current
  WHERE domain = 'positions' AND kind = 'institution'
) AS i ON i.id = p.institution_id
GROUP BY institution_id, currency
ORDER BY institution_id, currency
