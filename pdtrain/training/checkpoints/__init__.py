"""Save the state of training while it goes on, and resume from it."""
