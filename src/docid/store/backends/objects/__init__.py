"""The object store backend (extra `objects`): one object per document."""
