-- What issuers owe against what is held, after a block: per issued asset the supply outstanding by its issuer's account in
-- the books, and the sum of all holders, escrows and channels. difference is 0 where every unit that was issued is found.
-- In the book's units. reserves of the bank (S2) come with its statements: then reserves - outstanding is the coverage.
-- position: ledger index or block number.
-- Example: SELECT asset, outstanding, held FROM proof_of_reserves(position = 341) WHERE difference != 0
SELECT
  chain,
  chain_number,
  asset,
  sumIf(debits - credits, code = 102) AS outstanding,
  sumIf(credits - debits, code NOT IN (102, 106)) AS held,
  sumIf(debits - credits, code = 106) AS opened,
  countIf(code = 101 AND credits > debits) AS holders,
  outstanding + opened - held AS difference
FROM book_balances(position = {position:Int64})
WHERE chain_number > 0
GROUP BY chain, chain_number, asset
HAVING countIf(code = 102) > 0
