"""The layers: (query, keys, values, mask) -> Attended(output, weights)."""
