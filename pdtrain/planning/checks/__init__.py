"""Check a machine, its ranks and a config before a run starts."""
