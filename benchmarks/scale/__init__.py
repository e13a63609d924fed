"""What clbench costs with many runs and on several machines."""
