"""The recommender problem: encoded data, stacks of members trained and measured on them, and their search space."""
