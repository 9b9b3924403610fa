-- Every account of the books after a block: units debited and credited by posted transfers. `code` and `subject` as
-- in `transfers`. Holders, escrows and channels hold credits - debits; issuers, openings, gas and fees the reverse.
-- What was there when a run began (openings: transaction_index -1) counts from that run's start, whichever block told it.
-- pending_debits, pending_credits: of blocks up to it that their chain may still take back, as they stand now; off-chain
-- what locks hold that no event up to it has released or voided, in part or whole.
-- position: ledger index or block number; off-chain the event's time in milliseconds.
-- Example: SELECT sum(credits - debits) FROM book_balances(position = 341) WHERE asset = 'xrpl:main/XRP' AND code = 104
SELECT
  chain,
  chain_number,
  asset,
  code,
  owner,
  subject,
  sum(hold_debits) AS debits,
  sum(hold_credits) AS credits,
  sum(hold_pending_debits) AS pending_debits,
  sum(hold_pending_credits) AS pending_credits
FROM (
  SELECT
    chain,
    chain_number,
    asset,
    hold,
    side.1 AS code,
    side.2 AS owner,
    side.3 AS subject,
    sumIf(side.4, status = 'posted') AS hold_debits,
    sumIf(side.5, status = 'posted') AS hold_credits,
    -- a chain's transfer that posts or voids has the amount of the pending one that it names; one that ends a hold
    -- off-chain may post less, and the rest is given back
    hold != '' AND countIf(pending_id != '') > 0 AS ended,
    if(ended, 0, sumIf(side.4, status = 'pending') - sumIf(side.4, pending_id != '')) AS hold_pending_debits,
    if(ended, 0, sumIf(side.5, status = 'pending') - sumIf(side.5, pending_id != '')) AS hold_pending_credits
  FROM (
    SELECT
      chain, chain_number, asset, status, pending_id,
      multiIf(event_id = '', '', status = 'pending', transfer_id, pending_id) AS hold,
      debit_code, debit_owner, debit_subject, credit_code, credit_owner, credit_subject, amount
    FROM transfers FINAL
    WHERE if(transaction_index = -1, run - 1, block) <= {position:Int64} AND status IN ('posted', 'pending', 'voided')
  )
  ARRAY JOIN [
    (debit_code, debit_owner, debit_subject, toInt256(amount), toInt256(0)),
    (credit_code, credit_owner, credit_subject, toInt256(0), toInt256(amount))
  ] AS side
  GROUP BY chain, chain_number, asset, hold, code, owner, subject
)
GROUP BY chain, chain_number, asset, code, owner, subject
