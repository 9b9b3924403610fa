-- Up to where the tables are: per topic and partition the last commit, its last block and how long ago it was.
-- `block` is that of the last message, whatever it said of it: on an EVM chain the block that was made final or retracted last.
-- `rows` and `duplicates` count since the beginning, over all epochs: rows of all tables, messages dropped.
-- Example: SELECT topic, partition, block, age_s FROM pipeline_freshness ORDER BY age_s DESC
SELECT
  topic,
  partition,
  argMax(p.epoch, place) AS epoch,
  argMax(p.to_offset, place) AS to_offset,
  argMax(p.block, place) AS block,
  argMax(p.block_hash, place) AS block_hash,
  max(tuple(p.committed_at, p.to_offset) AS place).1 AS committed_at,
  dateDiff('second', committed_at, now64(3, 'UTC')) AS age_s,
  sumIf(p.rows, p.`table` != 'sink_applied') AS rows,
  sumIf(p.duplicates, p.`table` = 'sink_applied') AS duplicates,
  sumIf(p.refused, p.`table` = 'sink_applied') AS refused
FROM sink_progress AS p
GROUP BY topic, partition
