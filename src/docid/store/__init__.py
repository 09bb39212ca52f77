"""The store: write, read and scan documents through a backend."""
