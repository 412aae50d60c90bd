"""Networks cut between nodes: where, and into which parts."""
