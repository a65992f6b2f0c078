"""Bring the files of a corpus into passages: find, read in processes, filter, report."""
