"""Turns a dataset into a stream of experiences: the split, the class order, and the data of each experience."""
