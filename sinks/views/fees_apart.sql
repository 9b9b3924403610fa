-- Fees that are in no roll-up, a row per transaction: those of blocks that stand but are not final yet, each once. What
-- gas_daily and gas_report add to the roll-up.
-- The blocks are found in evm_blocks, of which there are few: FINAL over all fees is what a question can't afford.
-- burnt_unknown: 1 where nobody tells what part was burnt.
-- Recompute: SELECT chain, owner, fee FROM gas_ledger FINAL WHERE finality = 'head'
-- Example: SELECT owner, sum(fee) FROM fees_apart WHERE chain_number = 100 GROUP BY owner
SELECT
  chain, chain_number, owner, toDate(close_time) AS day, '' AS app_id, toUInt64(1) AS transactions, any(g.fee) AS fee,
  any(ifNull(g.burnt, toUInt256(0))) AS burnt, toUInt64(any(g.burnt IS NULL)) AS burnt_unknown,
  any(g.gas_required) AS gas_required, any(g.gas_paid_by_user) AS gas_paid_by_user,
  any(g.gas_paid_by_treasury) AS gas_paid_by_treasury
FROM gas_ledger AS g
WHERE chain_number != 0 AND (chain_number, close_time, ledger_index) IN (
  SELECT chain_number, time, block_number FROM evm_blocks WHERE finality = 'head'
)
GROUP BY chain, chain_number, owner, close_time, ledger_index, transaction_index, branch
HAVING argMax(g.finality != 'retracted' AND g.finality != 'final', (g.incarnation, g.finality != 'head'))
SETTINGS final = 0
