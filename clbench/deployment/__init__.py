"""Stores, loads and exports trained networks, and runs them on images."""
