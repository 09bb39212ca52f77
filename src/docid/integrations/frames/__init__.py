"""Data frames of pandas, polars and pyarrow, through narwhals (extra `frames`)."""

from __future__ import annotations

try:
    import narwhals as _  # noqa: F401 - so that the message names the extra
except ImportError as error:  # pragma: no cover  - tested in an environment without it
    raise ImportError("docid.frames needs narwhals: pip install 'docid-store[frames]'") from error
