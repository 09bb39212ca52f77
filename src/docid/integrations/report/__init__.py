"""The report: one page of HTML about a store, which loads nothing and runs nothing that a document says."""
