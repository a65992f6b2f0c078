"""Read files that hold one document, or one question with its answer, a record."""
