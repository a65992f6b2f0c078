"""Estimate cost and memory, and examine machines, before training."""
