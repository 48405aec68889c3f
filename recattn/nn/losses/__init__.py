"""What a model is to make small: logits, or states and embeddings, to a scalar."""
