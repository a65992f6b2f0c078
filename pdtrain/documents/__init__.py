"""Read documents and cut them into passages."""
