"""Example programs that use docid."""
