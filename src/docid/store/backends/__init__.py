"""The backend protocol and the built-in backends."""
