"""Look at a folder of documents before there is a run, and write a config for it."""
