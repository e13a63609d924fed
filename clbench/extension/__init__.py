"""Trains a first network on a folder of images, and adds classes to a network without its old data."""
