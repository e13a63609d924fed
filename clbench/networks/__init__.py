"""The networks: trunks of blocks, and heads that grow with the classes."""
