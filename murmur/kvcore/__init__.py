"""The replicated key-value core: one log, the tree derived from it, and the cells that merge."""
