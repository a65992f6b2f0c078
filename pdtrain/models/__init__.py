"""Load base models and their chat templates, and know what they are made of."""
