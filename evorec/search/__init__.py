"""The evolutionary search: ask, evaluate group by group, tell, archive."""
