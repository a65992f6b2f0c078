"""Hold what the readers of office documents and books are made of."""
