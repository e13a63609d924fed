"""Plans runs, and executes each from its spec to its published files."""
