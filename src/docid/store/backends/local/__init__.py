"""The local backend: one directory per document. `docs/internals.md` describes each step."""
