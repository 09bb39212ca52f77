"""The object store backend (extra `objects`): one object for each document."""
