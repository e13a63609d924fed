"""Listeners to the events of runs: the progress display, and trackers, which pass them on to other programs."""
