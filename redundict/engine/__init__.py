"""Bytes on a medium: slots, trailers, the lock and the commit. Knows no dicts and no formats."""
