-- The rows of owner_names as a dictionary: whose an account id or an address is, at once, in any query, without a join.
-- Read anew within a minute of a change; a server takes its rows as the user `default` of the same server.
-- Dictionary: id String, kind String, owner String, asset String, type String, name String
-- Example: SELECT dictGetOrNull('owner_dictionary', 'owner', concat(chain, '/', owner)) AS user, fee_paid FROM gas_report
SELECT id, kind, owner, asset, type, name FROM owner_names
