"""Find where sentences end, in many languages."""
