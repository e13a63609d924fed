"""Listeners to the events of runs: so far the progress display."""
