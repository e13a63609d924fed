"""Divides a dataset into experiences."""
