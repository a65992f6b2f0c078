"""Put a LoRA adapter on a base, load a trained one, and record what it has learned."""
