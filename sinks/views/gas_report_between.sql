-- The gas report of a period: fees by owner, as in gas_report, of the days from `from` to `to` (UTC), both included.
-- verified: 0 counts every block that stands; 1 on chains only final blocks up to where their run is verified without a
-- hole (view verified_up_to). Gas in managed custody has no blocks: applied charges and coverages are in both.
-- from: first day; to: last day; verified: 0 or 1.
-- Recompute: SELECT chain, owner, count() AS transactions, sum(fee) AS fee_paid, if(countIf(burnt IS NULL) = 0, sum(burnt), NULL) AS fee_burnt, sum(gas_required) AS total_gas_required, sum(gas_paid_by_user) AS total_gas_paid_by_user, sum(gas_paid_by_treasury) AS total_gas_paid_by_treasury FROM gas_ledger FINAL WHERE toDate(close_time) BETWEEN {from:Date} AND {to:Date} AND finality != 'retracted' AND ({verified:UInt8} = 0 OR chain_number = 0 OR finality != 'head' AND (chain_number, ledger_index) IN (SELECT chain_number, arrayJoin(range(first_block, verified_up_to + 1)) FROM verified_up_to)) GROUP BY chain, owner
-- Example: SELECT owner, fee_paid FROM gas_report_between(from = '2024-01-01', to = '2024-01-31', verified = 1)
WITH (
  SELECT CAST((groupArray(chain_number), groupArray(blocks)), 'Map(Int32, Array(Tuple(Int64, Int64)))')
  FROM (
    SELECT chain_number, groupArray((first_block, v.verified_up_to)) AS blocks
    FROM verified_up_to AS v
    WHERE {verified:UInt8} != 0
    GROUP BY chain_number
  )
) AS runs
SELECT
  chain,
  chain_number,
  owner,
  sum(f.transactions) AS transactions,
  sum(f.fee) AS fee_paid,
  if(sum(f.burnt_unknown) = 0, sum(f.burnt), NULL) AS fee_burnt,
  sum(f.gas_required) AS total_gas_required,
  sum(f.gas_paid_by_user) AS total_gas_paid_by_user,
  sum(f.gas_paid_by_treasury) AS total_gas_paid_by_treasury
FROM (
  SELECT
    chain, chain_number, owner, transactions, fee, burnt, burnt_unknown, gas_required, gas_paid_by_user,
    gas_paid_by_treasury
  FROM fees_by_day
  WHERE day BETWEEN {from:Date} AND {to:Date} AND ({verified:UInt8} = 0 OR chain_number = 0)
  UNION ALL
  SELECT
    chain, chain_number, owner, toUInt64(1), fee, ifNull(burnt, toUInt256(0)), toUInt64(burnt IS NULL), gas_required,
    gas_paid_by_user, gas_paid_by_treasury
  FROM gas_ledger
  WHERE {verified:UInt8} != 0 AND chain_number != 0 AND (finality = 'final' OR finality = '')
    AND toDate(close_time) BETWEEN {from:Date} AND {to:Date}
    AND arrayExists(run -> ledger_index BETWEEN run.1 AND run.2, runs[chain_number])
) AS f
GROUP BY chain, chain_number, owner
SETTINGS do_not_merge_across_partitions_select_final = 1
