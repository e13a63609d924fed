"""The contract of a strategy as named checks."""
