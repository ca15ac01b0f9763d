"""The bytes of a store: slots, trailers, the lock, the commit. Must not know dicts or formats."""
