"""Finds out what is wrong or slow: `clbench doctor` and `clbench profile`."""
