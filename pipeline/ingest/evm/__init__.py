"""EVM ingest: nodes, reading of judged blocks, what is watched, and the line of a chain that takes blocks back."""
