"""Make what holds the adapter to its base: general questions and texts, and practice in reading."""
