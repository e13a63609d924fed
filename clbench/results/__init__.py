"""Runs on disk: their specs, their files, and how they are read back and checked."""
