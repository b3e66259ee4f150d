"""The Pareto archive, its indicators, and the choice of members."""
