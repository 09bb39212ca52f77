"""Task tables: rows, reading and writing them as CSV, reserving their ids, and finding them by doc id."""
