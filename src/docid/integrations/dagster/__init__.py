"""The Dagster integration (extra `dagster`): task tables are assets, and documents are partitions of assets."""

try:
    import dagster as _  # noqa: F401
except ImportError as error:  # pragma: no cover  - tested in an environment without it
    raise ImportError("docid.dagster needs Dagster: pip install 'docid-store[dagster]'") from error
