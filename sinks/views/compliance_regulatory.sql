-- S1's compliance export, part 4 of 4, regulatory report: one row per institution, its region and currency: what it took
-- on, paid in, released and gave back within the period, what was refused, and what its escrows held at the end.
-- created, amount_created: positions created. funded, released, voided: by the books' transfers of its positions' escrows.
-- cancelled, expired: positions that ended so. refused: steps of its positions that the rules refused.
-- open_at_end: positions neither released, cancelled nor expired by the last step that was taken up to the last day.
-- held_at_end: what escrows held by the books: all funded - released - voided since the beginning, up to the last day.
-- Below 0 where a release's own time lies before that of its funding, and the last day between them.
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
  WITH at >= toDateTime64({from:Date}, 3, 'UTC') AS within
  SELECT
    position_id, sumIf(amount, kind = 'ESCROW_LOCK' AND within) AS funded,
    sumIf(amount, kind = 'ESCROW_RELEASE' AND within) AS released, sumIf(amount, kind = 'ESCROW_VOID' AND within) AS voided,
    sumIf(amount, kind = 'ESCROW_LOCK') - sumIf(amount, kind IN ('ESCROW_RELEASE', 'ESCROW_VOID')) AS held
  FROM compliance_transfers(from = toDate(0), to = {to:Date})
  WHERE topic = 'positions.events.v1' AND position_id != ''
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
