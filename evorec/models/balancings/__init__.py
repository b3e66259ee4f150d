"""Built-in ways of balancing the task losses, each in a file of its own; importable without torch."""
