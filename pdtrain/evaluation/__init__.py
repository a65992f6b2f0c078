"""Score base, teacher, retrieval and adapter on held-out questions."""
