"""The engine: what is on record is folded, decided and planned, and runs go through it, node by node."""
