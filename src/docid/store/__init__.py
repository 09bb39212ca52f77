"""The store: writing, reading and scanning documents, over a backend."""
