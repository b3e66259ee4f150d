"""The genome: typed genes, the search space of these genes, and the operators that vary it."""
