"""Hold what the reader of Markdown is made of."""
