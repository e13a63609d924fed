"""What a strategy reads and keeps, against what it may."""
