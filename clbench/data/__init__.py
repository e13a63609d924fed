"""Datasets as arrays or image files, and batches of their pixels."""
