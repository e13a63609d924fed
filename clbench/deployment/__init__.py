"""Trained networks taken out of their runs: stored, loaded, exported, and asked what is in an image."""
