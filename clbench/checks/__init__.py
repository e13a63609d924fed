"""The contracts of strategies and networks as named checks, for `clbench check` and clbench.testing."""
