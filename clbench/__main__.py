"""`python -m clbench`: the command, where the script of that name is not on the path."""

from clbench.cli.program import program

program()
