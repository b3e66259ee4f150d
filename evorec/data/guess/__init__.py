"""Guess the configuration of a log from its files: roles of the columns, labels, features and the split."""
