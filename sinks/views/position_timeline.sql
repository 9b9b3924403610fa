-- A position's life, step by step: each applied event with the state and remainder that it led to, and how long the
-- state before had lasted.
-- position: the position's id.
-- Example: SELECT at, state, remainder, lasted_s FROM position_timeline(position = 'pos_1')
SELECT
  e.at AS at,
  e.event_id AS event_id,
  e.kind AS kind,
  JSONExtractString(s.value, 'state') AS state,
  toDecimal256(JSONExtractString(s.value, 'remainder'), 18) AS remainder,
  toDecimal256(JSONExtractString(s.value, 'amount'), 18) AS amount,
  JSONExtractString(s.value, 'currency') AS currency,
  e.amount_released AS amount_released,
  s.version AS version,
  if(s.version = 1, NULL, dateDiff('second', lagInFrame(e.at, 1, e.at) OVER (ORDER BY s.version), e.at)) AS lasted_s,
  e.payload AS payload
FROM (SELECT * FROM application_states FINAL
  WHERE domain = 'positions' AND kind = 'position' AND id = {position:String}) AS s
INNER JOIN (SELECT * FROM position_events FINAL WHERE position_id = {position:String}) AS e ON e.event_id = s.event_id
ORDER BY s.version
