"""recattn: recommendation as retrieval by attention."""
