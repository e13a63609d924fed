"""Compares the peers' own code with our transcriptions of it: the same logits must give the same loss and gradient."""
