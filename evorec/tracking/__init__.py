"""Trackers: experiment trackers that observe runs."""
