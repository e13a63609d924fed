"""Datasets as arrays on disk: prepared, checked and opened; and batches of their images."""
