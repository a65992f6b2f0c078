"""More questions about what the student misses, and more training on them."""
