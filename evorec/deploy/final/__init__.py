"""The final training: steps chosen on validation, fresh seeds, and the test opened once."""
