"""Compares the speed of clbench and its peers at the same work, on one machine."""
