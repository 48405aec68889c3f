"""How well does each thing match the query? (query, keys, mask) -> scores."""
