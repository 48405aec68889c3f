"""What is retrieved of what matched? (scores, mask) -> weights."""
