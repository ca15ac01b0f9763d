"""Formats: a dict to a payload and back. Knows no files and no slots."""
