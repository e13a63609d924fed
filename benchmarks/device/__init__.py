"""Measures how much of a processor's or GPU's capacity a training step uses."""
