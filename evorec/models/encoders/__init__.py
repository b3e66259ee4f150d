"""Built-in encoders of the past, each in a file of its own; importable without torch."""
