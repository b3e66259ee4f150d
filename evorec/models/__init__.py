"""Recommender models: the evolved multi-task recommender and the baselines that it is compared with."""
