"""What a document is: ids, stages, documents, records, outcomes and findings. Pure rules without I/O."""
