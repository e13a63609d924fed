"""Where planned runs are done: in this process or in several."""
