"""Measures how much networks retain when classes are added to them without their old data; see `__main__.py`."""
