"""Ask a capable model for questions about a passage, in the passage's language."""
