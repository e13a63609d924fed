"""How much of a processor or GPU a training step uses."""
