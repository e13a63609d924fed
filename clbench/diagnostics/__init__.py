"""What a user asks when something is wrong or slow: `clbench doctor` and `clbench profile`."""
