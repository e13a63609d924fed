"""The process and the machine: files, signals, random states, terminals. Nothing about continual learning."""
