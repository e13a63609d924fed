"""The command line: a command becomes a request, and its answer is printed."""
