-- Up to where each run of a chain is verified: every block from the run's first one to verified_up_to has a verdict
-- `verified`, of its own or over a range; one less than the run's first block where not even that one has.
-- A verdict counts where the ledger that is kept has its hash. `unverified` counts the blocks of the run that have none. A report on verified blocks only joins this view on
-- chain_number and keeps ledger_index BETWEEN first_block AND verified_up_to.
-- Example: SELECT chain, run, verified_up_to FROM verified_up_to WHERE unverified > 0
SELECT
  chain,
  chain_number,
  run,
  min(ledger_index) AS first_block,
  max(ledger_index) AS last_block,
  if(countIf(not proven) = 0, last_block, minIf(ledger_index, not proven) - 1) AS verified_up_to,
  countIf(not proven) AS unverified
FROM (
  SELECT
    l.chain AS chain,
    l.chain_number AS chain_number,
    l.run AS run,
    l.ledger_index AS ledger_index,
    ifNull(p.upto, -1) >= l.ledger_index AS proven
  FROM xrpl_ledgers AS l
  ASOF LEFT JOIN (
    SELECT v.chain_number AS chain_number, v.block AS block,
      max(v.last_block) OVER (PARTITION BY v.chain_number ORDER BY v.block) AS upto
    FROM verdicts AS v
    INNER JOIN xrpl_ledgers AS o
      ON o.chain_number = v.chain_number AND o.ledger_index = v.last_block AND o.ledger_hash = v.block_hash
    WHERE v.outcome = 'verified'
  ) AS p ON l.chain_number = p.chain_number AND p.block <= l.ledger_index
)
GROUP BY chain, chain_number, run
