"""The rules of docid: ids, stages, documents, records, outcomes and findings. No module here does I/O."""
