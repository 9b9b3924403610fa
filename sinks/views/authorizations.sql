-- S4's authorizations as they are now, one row each: AUTHORIZED, CLAIMED, FULFILLED or EXPIRED. amount: exact.
-- Example: SELECT authorization_id, state, amount FROM authorizations WHERE user_id = 'alice' AND state = 'CLAIMED'
SELECT
  id AS authorization_id,
  JSONExtractString(value, 'user') AS user_id,
  JSONExtractString(value, 'anchor') AS anchor,
  toDecimal256(JSONExtractString(value, 'amount'), 18) AS amount,
  JSONExtractString(value, 'state') AS state,
  JSONExtract(value, 'merchant', 'Nullable(String)') AS merchant,
  JSONExtract(value, 'attestor', 'Nullable(String)') AS attestor,
  fromUnixTimestamp64Milli(JSONExtractInt(value, 'expires_ms'), 'UTC') AS expires_at,
  fromUnixTimestamp64Milli(JSONExtractInt(value, 'created_ms'), 'UTC') AS created_at,
  fromUnixTimestamp64Milli(JSONExtractInt(value, 'updated_ms'), 'UTC') AS updated_at,
  version
FROM application_current
WHERE domain = 'anchors' AND kind = 'authorization'
