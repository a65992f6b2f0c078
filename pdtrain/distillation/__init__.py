"""Turn answers into batches, run teacher and student, and compare them."""
