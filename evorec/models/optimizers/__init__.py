"""Built-in optimisers, each in a file of its own; importable without torch."""
