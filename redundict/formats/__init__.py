"""Formats turn a dict into a payload and back. This package knows no files and no slots."""
