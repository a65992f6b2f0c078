"""Write questions about passages, and their answers."""
