-- The whole story of one position of S1, or of an asset of S1 over all its positions, in the order it happened: applied
-- events, each attestation queued for a chain and each transaction that confirms one, with their places in topic and
-- chain, as in provenance.
-- about: the position, or the entry of the asset, that the row is of. state: what it came to; amount, amount_released:
-- of the event. attestation_id: digest on the chain, empty for none.
-- hash, block_hash: of the transaction that carries the digest, and of its ledger or block; empty for the rest.
-- detail: JSON. The remainder after each step: position_timeline.
-- position: the position's id, or the asset's.
-- Example: SELECT at, source, type, state, hash FROM position_provenance(position = 'pos_1')
WITH
  named AS (
    SELECT {position:String} AS about
    UNION DISTINCT
    SELECT position_id FROM position_events
    WHERE type = 'POSITION_CREATED' AND institution_id IN (
        SELECT institution_id FROM position_events
        WHERE position_id = {position:String} AND type = 'POSITION_ASSET_REGISTERED'
      ) AND JSONExtractString(payload, 'asset_id') = {position:String}
  ),
  attested AS (
    SELECT DISTINCT s.id AS about, arrayJoin(JSONExtract(value, 'attestations', 'Array(String)')) AS id
    FROM application_states AS s
    WHERE domain = 'positions' AND kind = 'position' AND s.id IN (SELECT about FROM named)
  ),
  seen AS (SELECT block FROM attestation_confirmations WHERE attestation_id IN (SELECT id FROM attested))
SELECT
  at, source, about, type, state, amount, amount_released, attestation_id, chain, block, transaction_index, hash,
  ifNull(l.ledger_hash, '') AS block_hash, event_id, app_id, user_id, detail, _topic, _partition, _offset, _epoch
FROM (
  SELECT
    at, 'position_events' AS source, position_id AS about, type, new_state AS state, amount, amount_released,
    '' AS attestation_id, 'offchain' AS chain, toInt64(-1) AS block, toInt32(0) AS transaction_index, '' AS hash,
    event_id, app_id, user_id, payload AS detail, recorded_at, _topic, _partition, _offset, _epoch
  FROM position_events FINAL
  WHERE position_id IN (SELECT about FROM named) AND event_id IN (
    SELECT event_id FROM applied_events WHERE topic = 'positions.events.v1' AND key IN (SELECT about FROM named)
  )
  UNION ALL
  SELECT
    at, 'attestations', position_id, kind, '', NULL, NULL, attestation_id, 'offchain', -1, 0, '', event_id, '', NULL,
    payload_json, at, _topic, _partition, _offset, _epoch
  FROM attestations FINAL WHERE attestation_id IN (SELECT id FROM attested)
  UNION ALL
  SELECT
    at, 'attestation_confirmations', a.about, type, '', NULL, NULL, attestation_id, chain, block, transaction_index,
    tx_hash, event_id, app_id, user_id, '', recorded_at, _topic, _partition, _offset, _epoch
  FROM attestation_confirmations AS c FINAL INNER JOIN attested AS a ON a.id = c.attestation_id
  WHERE attestation_id IN (SELECT id FROM attested)
) AS s
LEFT JOIN (
  SELECT chain, ledger_index, ledger_hash FROM xrpl_ledgers FINAL WHERE ledger_index IN (SELECT block FROM seen)
  UNION ALL
  SELECT chain, block_number, block_hash FROM evm_blocks FINAL
  WHERE finality = 'final' AND block_number IN (SELECT block FROM seen)
) AS l ON l.chain = s.chain AND l.ledger_index = s.block
ORDER BY at, recorded_at, _topic != 'positions.events.v1', _offset
SETTINGS do_not_merge_across_partitions_select_final = 1
