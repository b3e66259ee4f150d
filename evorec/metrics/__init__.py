"""Metrics as pure functions on numpy arrays: one value per user where users matter, then the mean."""
