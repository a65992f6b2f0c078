"""Say what passages and documents are called, and tell those apart that would be called alike."""
