"""Stored runs side by side, with statistics."""
