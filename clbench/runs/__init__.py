"""Plans runs, and does one from its spec to its published files."""
