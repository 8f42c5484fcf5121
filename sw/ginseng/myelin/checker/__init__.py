"""The checker: whether each result of a graph depends on one example only."""
