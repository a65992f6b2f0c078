"""Read one family of formats a module."""
