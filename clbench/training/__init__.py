"""Training of one experience, from its data to the weights."""
