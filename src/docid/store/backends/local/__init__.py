"""The local backend: a directory for each document. `docs/internals.md` describes its protocol."""
