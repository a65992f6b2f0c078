"""Keep the training data as tokens on disk: written once, and mapped by every rank."""
