-- Up to where each run of a chain is verified: every block from the run's first one to verified_up_to has a verdict
-- `verified`, of its own or over a range; one less than the run's first block where not even that one has.
-- Only blocks that stay are counted: every ledger of XRPL, the final blocks of an EVM chain.
-- A verdict counts where the block that is kept has its hash. `unverified` counts the blocks of the run that have none.
-- A report on verified blocks only joins this view on chain_number and keeps ledger_index (block_number) BETWEEN
-- first_block AND verified_up_to, and of an EVM chain finality = 'final'.
-- Example: SELECT chain, run, verified_up_to FROM verified_up_to WHERE unverified > 0
WITH kept AS (
  SELECT chain, chain_number, run, ledger_index AS block, ifNull(ledger_hash, '') AS block_hash FROM xrpl_ledgers FINAL
  UNION ALL
  SELECT chain, chain_number, run, block_number, block_hash FROM evm_blocks FINAL WHERE finality = 'final'
)
SELECT
  chain,
  chain_number,
  run,
  min(block) AS first_block,
  max(block) AS last_block,
  if(countIf(not proven) = 0, last_block, minIf(block, not proven) - 1) AS verified_up_to,
  countIf(not proven) AS unverified
FROM (
  SELECT
    l.chain AS chain,
    l.chain_number AS chain_number,
    l.run AS run,
    l.block AS block,
    ifNull(p.upto, -1) >= l.block AS proven
  FROM kept AS l
  ASOF LEFT JOIN (
    SELECT v.chain_number AS chain_number, v.block AS block,
      max(v.last_block) OVER (PARTITION BY v.chain_number ORDER BY v.block) AS upto
    FROM verdicts AS v FINAL
    INNER JOIN kept AS o
      ON o.chain_number = v.chain_number AND o.block = v.last_block AND o.block_hash = v.block_hash
    WHERE v.outcome = 'verified' AND v.block_hash != ''
  ) AS p ON l.chain_number = p.chain_number AND p.block <= l.block
)
GROUP BY chain, chain_number, run
