"""Task tables: read and write rows as CSV, reserve their ids, and find them by doc id."""
