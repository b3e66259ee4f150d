"""The genome: typed genes, the search space they make, and the operators that vary it."""
