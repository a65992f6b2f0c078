"""Write files so that they last, and check what stands on the disk."""
