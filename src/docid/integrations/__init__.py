"""Integrations: Dagster, data frames and the report page."""
