"""Train the adapter, with checkpoints, warm starts and rounds."""
