"""What a strategy reads and keeps, recorded from outside and judged."""
