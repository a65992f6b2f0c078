"""Divide work among processes and threads, and stop it when a signal comes."""
