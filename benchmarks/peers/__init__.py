"""The peers' own code beside our transcriptions of it: the same logits in, the same loss and gradient out."""
