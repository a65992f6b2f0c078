"""Drop duplicates, repeated lines and what filters name from documents that were read."""
