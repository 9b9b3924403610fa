-- Every account of the books after a block: units debited and credited by posted transfers. `code` and `subject` as
-- in `transfers`. Holders, escrows and channels hold credits - debits; issuers, openings and fees the reverse.
-- What was there when a run began (openings: transaction_index -1) counts from that run's start, whichever block told it.
-- position: ledger index or block number.
-- Example: SELECT sum(credits - debits) FROM book_balances(position = 341) WHERE asset = 'xrpl:main/XRP' AND code = 104
SELECT
  chain,
  chain_number,
  asset,
  side.1 AS code,
  side.2 AS owner,
  side.3 AS subject,
  sum(side.4) AS debits,
  sum(side.5) AS credits
FROM transfers
ARRAY JOIN [
  (debit_code, debit_owner, debit_subject, toInt256(amount), toInt256(0)),
  (credit_code, credit_owner, credit_subject, toInt256(0), toInt256(amount))
] AS side
WHERE if(transaction_index = -1, run - 1, block) <= {position:Int64} AND status = 'posted'
GROUP BY chain, chain_number, asset, code, owner, subject
