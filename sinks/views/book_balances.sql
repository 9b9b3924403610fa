-- Every account of the books after a block: units debited and credited by posted transfers. `code` and `subject` as
-- in `transfers`. Holders, escrows and channels hold credits - debits; issuers, openings, gas and fees the reverse.
-- What was there when a run began (openings: transaction_index -1) counts from that run's start, whichever block told it.
-- pending_debits, pending_credits: of blocks up to it that their chain may still take back, as they stand now.
-- position: ledger index or block number.
-- Example: SELECT sum(credits - debits) FROM book_balances(position = 341) WHERE asset = 'xrpl:main/XRP' AND code = 104
SELECT
  chain,
  chain_number,
  asset,
  side.1 AS code,
  side.2 AS owner,
  side.3 AS subject,
  sumIf(side.4, status = 'posted') AS debits,
  sumIf(side.5, status = 'posted') AS credits,
  -- a transfer that posts or voids has the amount of the pending one that it names
  sumIf(side.4, status = 'pending') - sumIf(side.4, pending_id != '') AS pending_debits,
  sumIf(side.5, status = 'pending') - sumIf(side.5, pending_id != '') AS pending_credits
FROM (
  SELECT
    chain, chain_number, asset, status, if(event_id = '', pending_id, '') AS pending_id,
    debit_code, debit_owner, debit_subject, credit_code, credit_owner, credit_subject, amount
  FROM transfers FINAL
  WHERE if(transaction_index = -1, run - 1, block) <= {position:Int64}
    AND (status = 'posted' OR (status IN ('pending', 'voided') AND event_id = ''))
)
ARRAY JOIN [
  (debit_code, debit_owner, debit_subject, toInt256(amount), toInt256(0)),
  (credit_code, credit_owner, credit_subject, toInt256(0), toInt256(amount))
] AS side
GROUP BY chain, chain_number, asset, code, owner, subject
