"""Write questions sentence by sentence, with templates and examples for a small model."""
