"""Operations on whole stores and tables: audit, repair, copy, migrate and curate."""
