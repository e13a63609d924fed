"""A run on disk: its spec, its files, and how they are read back and checked."""
