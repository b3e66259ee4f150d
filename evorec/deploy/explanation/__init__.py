"""Explanation of a member: its settings, its neighbours on the front, its gates and the importance of its inputs."""
