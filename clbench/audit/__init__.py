"""The audit: records from outside what a strategy reads and keeps, and judges it."""
