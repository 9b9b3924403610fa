-- Guarantees: what each escrow still locks, for whom and what. status: active, blocked or closed.
-- expires_at is null where it does not end by itself; beneficiary is empty where it only goes back.
-- Example: SELECT account_id, sum(amount) FROM token_guarantees WHERE status != 'closed' GROUP BY account_id
SELECT
  substring(id, length('escrow:') + 1) AS escrow_id,
  JSONExtractString(now, 'account_id') AS account_id,
  JSONExtractString(now, 'beneficiary_account_id') AS beneficiary,
  JSONExtractString(now, 'token_type') AS token_type,
  toDecimal128(JSONExtractString(now, 'amount'), 6) AS amount,
  JSONExtractString(now, 'status') AS status,
  JSONExtractString(now, 'reference_type') AS reference_type,
  JSONExtractString(now, 'reference_id') AS reference_id,
  fromUnixTimestamp64Milli(JSONExtract(now, 'expires_ms', 'Nullable(Int64)'), 'UTC') AS expires_at,
  fromUnixTimestamp64Milli(JSONExtractInt(now, 'updated_ms'), 'UTC') AS updated_at
FROM (
  SELECT id, value AS now
  FROM application_current WHERE domain = 'tokens' AND kind = 'economic_position'
)
WHERE JSONExtractString(now, 'position_type') = 'escrow'
