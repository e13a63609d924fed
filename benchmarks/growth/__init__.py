"""Measures how time and memory grow with the length of a stream, the number of images and the number of seeds."""
