-- Who stands behind an id: an account of the off-chain books (32 hex digits) or an address on a chain, <chain>/<address>,
-- that a user of the applications has registered. The source of the dictionary owner_dictionary.
-- owner: the user or reference; name: the account's label for operators; asset, type: of an account; kind: account or
-- address. No person's name stands here.
-- Example: SELECT id, owner FROM owner_names WHERE kind = 'address'
SELECT
  account_id AS id,
  'account' AS kind,
  argMax(a.owner, (a.position, a._offset)) AS owner,
  toString(any(a.asset)) AS asset,
  toString(any(a.type)) AS type,
  argMaxIf(a.name, (a.position, a._offset), a.name != '') AS name
FROM accounts AS a
GROUP BY id
UNION ALL
SELECT id, 'address', JSONExtractString(now, 'user_id') AS user, '', '', ''
FROM (
  SELECT id, argMax(value, version) AS now FROM application_states
  WHERE domain = 'assets' AND kind = 'address' GROUP BY id
)
WHERE user != ''
