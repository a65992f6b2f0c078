"""Estimate cost and memory before training."""
