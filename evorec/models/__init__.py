"""Recommender models: the evolved multi-task recommender and the baselines it must beat."""
