"""Talk to other ranks, and spread the base over them."""
