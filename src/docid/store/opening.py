"""Which backend a root names: a directory, or the URL of an object store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from docid.store.backends.local.backend import LocalBackend
from docid.store.backends.memory import MemoryBackend

if TYPE_CHECKING:
    from docid.store.backends.base import Backend

# URLs with one slash, as a pathlib.Path makes of them.
_MANGLED = ("s3:/", "s3a:/", "gs:/", "az:/", "abfs:/", "abfss:/", "memory:/", "file:/")


def open_backend(
    root: str | os.PathLike[str], durability: Literal["full", "none"], options: Any, in_flight: int | None
) -> Backend:
    """Return the backend that a directory or a URL names. The arguments are those of `DocsStore`.

    Raises:
        ValueError, ImportError: as for `DocsStore`.
    """
    name = os.fspath(root)
    if not name:
        raise ValueError("root: empty; expected a directory ('.' for the current one)")
    scheme, is_url, rest = name.partition("://")
    if not is_url:
        scheme = ""
    if is_url and scheme not in {"file", "memory"}:
        from docid.store.backends.objects.backend import ObjectsBackend  # noqa: PLC0415 - an extra

        return ObjectsBackend(name, options=options, **({} if in_flight is None else {"in_flight": in_flight}))
    if options is not None or in_flight is not None:
        kind = "" if scheme == "memory" else "the directory "
        raise ValueError(f"options, in_flight: expected None with {kind}{name!r}; they are for an object store")
    if scheme == "memory":
        if rest:
            raise ValueError(f"root: expected 'memory://' alone, got {name!r}")
        return MemoryBackend()
    if is_url:
        from urllib.parse import unquote  # noqa: PLC0415 - seldom needed

        if not rest.startswith("/"):
            raise ValueError(f"root: expected file:///directory, got {name!r}")
        return LocalBackend(unquote(rest), durability=durability)
    if name.startswith(_MANGLED):
        raise ValueError("root: a URL with one slash, as a pathlib.Path makes of it; expected the URL as text")
    return LocalBackend(root, durability=durability)
