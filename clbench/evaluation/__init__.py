"""From a network's answers on the test set to counts and metrics."""
