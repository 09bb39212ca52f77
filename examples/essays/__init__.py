"""A pipeline of three stages over docid: see `docs/essays.md`."""
