-- The rows of asset_names as a dictionary: what an asset's key means, at once, in any query, without a join.
-- Read anew within a minute of a change; a server takes its rows as the user `default` of the same server.
-- Dictionary: asset String, chain String, kind String, symbol String, name String, decimals Nullable(UInt8)
-- Example: SELECT asset, transfers, dictGetOrNull('asset_dictionary', 'symbol', asset) AS symbol FROM transfers_daily ORDER BY day
SELECT asset, chain, kind, symbol, name, decimals FROM asset_names
