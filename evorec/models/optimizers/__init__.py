"""Built-in optimisers, one file each; importable without torch."""
