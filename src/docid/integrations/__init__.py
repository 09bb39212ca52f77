"""Other libraries: Dagster, data frames and the report page."""
