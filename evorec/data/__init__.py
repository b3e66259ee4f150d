"""Interaction tables: reading, simulating, splitting and encoding them."""
