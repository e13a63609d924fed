"""Measures what clbench costs with many runs and on several machines."""
