"""Export an adapter so that others load it, with its card, and prove that it answers alike."""
