"""Metrics: pure functions of numpy arrays, each registered where it is defined (`evorec.metrics.metric`)."""
