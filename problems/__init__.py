"""Problem definitions: one module each, with a scenario, `DEFAULTS` and `build(config=None)`."""
