"""Built-in retrieval losses, one file each; importable without torch."""
