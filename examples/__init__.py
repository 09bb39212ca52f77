"""Programs that use docid."""
