"""A pipeline of three stages that uses docid. See `docs/essays.md`."""
