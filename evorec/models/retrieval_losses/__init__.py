"""Built-in retrieval losses, each in a file of its own; importable without torch."""
