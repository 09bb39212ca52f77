"""Dagster (extra `dagster`): task tables as assets, documents as their partitions, all text through the store."""

try:
    import dagster as _  # noqa: F401
except ImportError as error:  # pragma: no cover  - tested in an environment without it
    raise ImportError("docid.dagster needs Dagster: pip install 'docid-store[dagster]'") from error
