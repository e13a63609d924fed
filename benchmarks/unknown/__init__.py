"""Measures how well a trained network's scores tell images of its classes from others."""
