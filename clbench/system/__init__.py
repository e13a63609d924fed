"""The process and the machine: files, signals, random states, terminals. Nothing of continual learning."""
