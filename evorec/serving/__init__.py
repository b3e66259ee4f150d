"""A bundle at work: reading and checking it, lists and scores without torch, and the HTTP service."""
