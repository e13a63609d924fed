"""One experience, from data to weights."""
