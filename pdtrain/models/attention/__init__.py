"""Run attention over packed rows that share prefixes."""
