"""The built-in search algorithms, one module each, found by their file."""
