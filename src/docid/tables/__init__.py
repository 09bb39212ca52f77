"""Task tables: rows, reading and writing them as CSV, reserving ids, and looking rows up."""
