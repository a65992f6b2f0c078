"""Sample completions and score continuations."""
