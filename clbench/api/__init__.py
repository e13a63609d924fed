"""The Python interface, with the same commands, files, names, defaults and errors as the command line."""
