"""Built-in item-item methods, each in a file of its own; importable without torch."""
