"""The built-in search algorithms, a module each, found by their file."""
