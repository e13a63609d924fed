"""Finds, describes, loads and scaffolds plug-in files."""
