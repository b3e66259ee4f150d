"""What a member is, in words and figures."""
