"""Whole stacks: encoders and decoders made of attention, feed-forward networks and residual paths."""
