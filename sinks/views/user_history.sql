-- S0's user history: what a user owns, or holds units of, now; what changed last comes first.
-- units: what the user holds of an asset in fractions; null of a whole one.
-- user: the user's id.
-- Example: SELECT asset_id, title, custody_type FROM user_history(user = 'alice')
SELECT
  s.*,
  if(s.holdings[{user:String}] = '', NULL, s.holdings[{user:String}]) AS units
FROM asset_states AS s
WHERE s.asset_id IN (
    SELECT asset_id FROM asset_owners WHERE owner_user_id = {user:String}
    UNION ALL
    SELECT asset_id FROM asset_state_versions WHERE has(holders, {user:String})
  )
  AND (s.owner_user_id = {user:String} OR mapContains(s.holdings, {user:String}))
ORDER BY s.last_updated_at DESC, s.asset_id DESC
