"""What a search keeps: the Pareto archive, the indicators that measure it, and picks from it."""
