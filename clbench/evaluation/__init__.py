"""Evaluation: from predictions on the test set to counts, and from counts to metrics."""
