"""Render chats with a model's template, and settle whether it thinks."""
