"""Say what passages are called, and tell those apart that would be called alike."""
