"""clbench from Python: the same commands, files, names, defaults and errors as from the command line."""
