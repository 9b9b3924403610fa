"""Following XRPL nodes: addresses, one node, the pool of nodes, and the line of ledgers they give."""
