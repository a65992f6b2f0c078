"""Turn bytes into text, and characters into those that people type."""
