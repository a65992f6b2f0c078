"""Read the documents of a corpus and split them into passages."""
