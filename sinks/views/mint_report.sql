-- What issuers brought into being and took back, by day (UTC) and asset, as the books of the chains have it: every posted
-- transfer out of an issuer's account or back into it. Of what a run began with (openings) nothing was minted.
-- minted, burnt, net: in the book's units (drops, the token's smallest unit, millionths of a billionth of an XRPL currency).
-- Blocks that a chain may still take back are not in it. Approvals and reserves of the bank come with its events.
-- Example: SELECT day, minted, burnt, net FROM mint_report WHERE asset = 'eip155:1/erc20:0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2' ORDER BY day
SELECT
  chain,
  chain_number,
  asset,
  issuer,
  toDate(time) AS day,
  countIf(minting) AS mints,
  countIf(NOT minting) AS burns,
  sumIf(toInt256(amount), minting) AS minted,
  sumIf(toInt256(amount), NOT minting) AS burnt,
  minted - burnt AS net
FROM (
  SELECT
    chain, chain_number, asset, time, amount, debit_code = 102 AS minting,
    if(debit_code = 102, debit_owner, credit_owner) AS issuer
  FROM transfers FINAL
  WHERE status = 'posted' AND transaction_index >= 0 AND chain_number > 0 AND (debit_code = 102) != (credit_code = 102)
)
GROUP BY chain, chain_number, asset, issuer, day
