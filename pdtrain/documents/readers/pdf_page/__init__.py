"""Hold what the reader of PDF is made of."""
