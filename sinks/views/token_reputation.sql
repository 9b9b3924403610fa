-- Reputation of each account as it is now, with the reason of its last change and how often it has changed.
-- Example: SELECT account_id, score FROM token_reputation ORDER BY score DESC LIMIT 10
SELECT
  JSONExtractString(now, 'account_id') AS account_id,
  toDecimal128(JSONExtractString(now, 'amount'), 6) AS score,
  JSONExtractString(now, 'reason') AS reason,
  JSONExtractString(now, 'status') AS status,
  changes,
  fromUnixTimestamp64Milli(JSONExtractInt(now, 'updated_ms'), 'UTC') AS updated_at
FROM (
  SELECT id, value AS now, version AS changes
  FROM application_current WHERE domain = 'tokens' AND kind = 'economic_position'
)
WHERE JSONExtractString(now, 'position_type') = 'reputation'
