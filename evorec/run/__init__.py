"""A run on disk: its directory and its ledger. No other package knows the name of a file in a run directory."""
