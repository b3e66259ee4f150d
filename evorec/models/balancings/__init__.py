"""Built-in ways of balancing the task losses, one file each; importable without torch."""
