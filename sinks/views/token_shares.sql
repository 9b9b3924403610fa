-- Shares of purchase orders: what each account has of each order, beside all that were issued, redeemed and possible.
-- Example: SELECT account_id, shares, shares_total FROM token_shares WHERE purchase_order_id = 'po-1' ORDER BY shares DESC
SELECT
  p.purchase_order_id AS purchase_order_id,
  p.account_id AS account_id,
  p.shares AS shares,
  p.status AS status,
  o.shares_issued AS shares_issued,
  o.shares_redeemed AS shares_redeemed,
  o.shares_total AS shares_total,
  p.updated_at AS updated_at
FROM (
  SELECT
    JSONExtractString(now, 'reference_id') AS purchase_order_id,
    JSONExtractString(now, 'account_id') AS account_id,
    toDecimal128(JSONExtractString(now, 'amount'), 6) AS shares,
    JSONExtractString(now, 'status') AS status,
    fromUnixTimestamp64Milli(JSONExtractInt(now, 'updated_ms'), 'UTC') AS updated_at
  FROM (
    SELECT id, value AS now
    FROM application_current WHERE domain = 'tokens' AND kind = 'economic_position'
  )
  WHERE JSONExtractString(now, 'position_type') = 'purchase_order'
) AS p
INNER JOIN (
  SELECT
    id,
    toDecimal128(JSONExtractString(now, 'shares_issued'), 6) AS shares_issued,
    toDecimal128(JSONExtractString(now, 'shares_redeemed'), 6) AS shares_redeemed,
    toDecimal128(JSONExtractString(now, 'shares_total'), 6) AS shares_total
  FROM (
    SELECT id, value AS now
    FROM application_current WHERE domain = 'tokens' AND kind = 'purchase_order'
  )
) AS o ON o.id = p.purchase_order_id
