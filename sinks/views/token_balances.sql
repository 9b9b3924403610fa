-- S3's ledger_balance: what each account has of each token, available and locked (numeric(20,6), exact), as it is now.
-- visible_label is what members see in place of the token's id.
-- Example: SELECT token_type, visible_label, available, locked FROM token_balances WHERE account_id = 'acc-ana'
SELECT
  b.account_id AS account_id,
  b.token_type AS token_type,
  if(t.label != '', t.label, transform(
    b.token_type,
    ['CREDIT', 'PO_SHARE', 'ESCROW', 'REPUTATION', 'GOVERNANCE', 'CONTRIB'],
    ['Credit', 'Shares of an order', 'Guarantee', 'Reputation', 'Votes', 'Contribution'],
    b.token_type
  )) AS visible_label,
  b.available AS available,
  b.locked AS locked,
  b.updated_at AS updated_at
FROM (
  SELECT
    JSONExtractString(now, 'account_id') AS account_id,
    JSONExtractString(now, 'token_type') AS token_type,
    toDecimal128(JSONExtractString(now, 'available'), 6) AS available,
    toDecimal128(JSONExtractString(now, 'locked'), 6) AS locked,
    fromUnixTimestamp64Milli(JSONExtractInt(now, 'updated_ms'), 'UTC') AS updated_at
  FROM (
    SELECT id, value AS now
    FROM application_current WHERE domain = 'tokens' AND kind = 'balance'
  )
) AS b
LEFT JOIN (
  SELECT id, JSONExtractString(value, 'visible_label') AS label
  FROM application_current WHERE domain = 'tokens' AND kind = 'token_type'
) AS t ON t.id = b.token_type
