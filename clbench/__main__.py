"""Runs the command line as `python -m clbench`, for when the `clbench` script is not on the path."""

from clbench.cli.program import program

program()
