"""Evaluations of earlier searches, the prior knowledge of a new search."""
