"""Token by token: activations and small networks that know no other token."""
