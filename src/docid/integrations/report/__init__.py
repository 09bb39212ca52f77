"""The report: one page of HTML about a store. It loads nothing, and runs nothing from a document."""
