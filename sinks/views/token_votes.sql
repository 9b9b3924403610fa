-- Votes on proposals: of each choice how many accounts and what weight, beside the weight of all that was cast.
-- Example: SELECT choice, votes, weight FROM token_votes WHERE proposal_id = 'prop-1' ORDER BY weight DESC
SELECT
  proposal_id,
  choice,
  votes,
  of_choice AS weight,
  sum(of_choice) OVER (PARTITION BY proposal_id) AS weight_cast,
  last_at
FROM (
  SELECT
    JSONExtractString(now, 'proposal_id') AS proposal_id,
    JSONExtractString(now, 'choice') AS choice,
    count() AS votes,
    sum(toDecimal128(JSONExtractString(now, 'weight'), 6)) AS of_choice,
    max(fromUnixTimestamp64Milli(JSONExtractInt(now, 'cast_ms'), 'UTC')) AS last_at
  FROM (
    SELECT id, value AS now
    FROM application_current WHERE domain = 'tokens' AND kind = 'vote'
  )
  GROUP BY proposal_id, choice
)
