-- S1's positions as they are now, one row each. amount and remainder are exact decimals of the currency's unit;
-- remainder: what the position's escrow holds. funder: who has paid it in, null before.
-- Example: SELECT id, state, remainder FROM positions WHERE holder_reference = 'holder-1'
SELECT
  id,
  JSONExtractString(value, 'institution_id') AS institution_id,
  JSONExtractString(value, 'asset_id') AS asset_id,
  JSONExtractString(value, 'template_id') AS template_id,
  JSONExtractString(value, 'holder_reference') AS holder_reference,
  JSONExtractString(value, 'currency') AS currency,
  toDecimal256(JSONExtractString(value, 'amount'), 18) AS amount,
  JSONExtractString(value, 'state') AS state,
  toDecimal256(JSONExtractString(value, 'remainder'), 18) AS remainder,
  JSONExtract(value, 'funder', 'Nullable(String)') AS funder,
  JSONExtract(value, 'external_reference', 'Nullable(String)') AS external_reference,
  JSONExtract(value, 'attestations', 'Array(String)') AS attestations,
  fromUnixTimestamp64Milli(JSONExtractInt(value, 'created_ms'), 'UTC') AS created_at,
  fromUnixTimestamp64Milli(JSONExtractInt(value, 'updated_ms'), 'UTC') AS updated_at,
  version
FROM application_current
WHERE domain = 'positions' AND kind = 'position'
