"""When did it happen? Biases of the scores, rotations and embeddings from order and time."""
