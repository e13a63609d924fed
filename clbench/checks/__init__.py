"""The contract of a strategy as named checks: `clbench check`, and clbench.testing for a plug-in's own tests."""
