"""Compares stored runs side by side, with statistics."""
