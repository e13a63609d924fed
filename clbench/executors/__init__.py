"""Where planned runs are executed: on this machine, on a Ray cluster, by Slurm, or by a third party's executor."""
