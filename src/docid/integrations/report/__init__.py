"""The report: one HTML page about a store. It loads no other files and runs no script but its own."""
