"""Hold what the reader of HTML is made of."""
