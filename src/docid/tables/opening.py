"""Open tables: text encodings, compression, pipes, files of another format, and the state of a file."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tempfile
import zlib
from typing import IO, Any, cast

from docid._files import raise_time_limit
from docid.errors import Problem, TaskTableError

# The first bytes of files that people take for tables, and what to do with them.
_FOREIGN = (
    (b"PK\x03\x04", "an Excel or OpenDocument workbook, or another zip file; export the sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls); export the sheet as CSV UTF-8"),
    (b"PAR1", "a Parquet file; read it as a data frame, and pass the frame to docid.frames"),
    (b"ARROW1", "an Arrow file; read it as a data frame, and pass the frame to docid.frames"),
    (b"SQLite format 3", "an SQLite database; select its rows, and pass them to reserve_tasks"),
    (b"\x1f\x8b", "a gzip file; give it a name that ends in .gz"),
    (b"BZh", "a bzip2 file; decompress it"),
    (b"\xfd7zXZ", "an xz file; decompress it"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file; decompress it"),
    (b"\xff\xfe\0\0", "UTF-32; save the table as UTF-8"),
    (b"\0\0\xfe\xff", "UTF-32; save the table as UTF-8"),
)
_JSON = ((b"{", "JSON Lines; give it a name that ends in .jsonl"), (b"[", "a JSON array; write one object per line"))
_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_PEEKED = 16  # bytes
DAMAGE = (EOFError, OSError, UnicodeDecodeError, zlib.error)
"""What the stream of a damaged table raises."""


def is_json_lines(file: str) -> bool:
    """Return whether a table is read as JSON Lines: its name ends in `.jsonl` or `.jsonl.gz`."""
    return file.removesuffix(".gz").endswith(".jsonl")


def open_table(file: str, label: str = "") -> io.TextIOBase:
    """Open a table as text, after its BOM; if the name ends in `.gz`, decompress it.

    The text is UTF-8, or UTF-16 with a BOM. Bytes that are not UTF-8 become lone surrogates, so that a fault can name
    their cell. `stream.encoding` is `utf-8`, `utf-8-sig`, `utf-16-le` or `utf-16-be`.

    Raises:
        TaskTableError: a file of another format; its message names `label`, by default the file.
    """
    stream: Any
    if file.endswith(".gz"):
        import gzip  # noqa: PLC0415 - seldom needed

        stream = gzip.open(file, "rb")  # noqa: SIM115 - closed with the result
    else:
        stream = open(file, "rb")  # noqa: SIM115 - as above
    try:
        encoding = _find_encoding(stream, label or file)
    except BaseException:
        stream.close()
        raise
    errors = "surrogatepass" if encoding.startswith("utf-16") else "surrogateescape"
    return io.TextIOWrapper(stream, encoding, errors, newline="")


def _find_encoding(stream: Any, file: str) -> str:
    """Return the encoding of a stream of bytes, and skip the BOM of UTF-16; raise for another format."""
    try:
        start = cast("bytes", stream.peek(_PEEKED))[:_PEEKED]
    except DAMAGE as error:
        raise_time_limit(error)
        raise TaskTableError([Problem(file, None, None, "", describe_damage(error))]) from None
    foreign = _FOREIGN if is_json_lines(file) else (*_FOREIGN, *_JSON)
    bare = start.removeprefix(b"\xef\xbb\xbf")
    for first, wrong in foreign:
        if bare.startswith(first) and (first not in {b"{", b"["} or bare[1:].lstrip()[:1] in {b'"', b"{", b""}):
            raise TaskTableError([Problem(file, None, None, "", f"{wrong}. Expected a CSV table")])
    if encoding := _UTF16.get(start[:2]):
        stream.read(2)
        return encoding
    return "utf-8-sig" if bare != start else "utf-8"


def describe_damage(error: Exception) -> str:
    """Return the message for text or gzip that is damaged; raise every other error."""
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-16: {error.reason}; save the table as UTF-8"
    # For a file that is not gzip, gzip raises an OSError without errno.
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return f"not gzip: {error}; expected a complete gzip file"


FileState = tuple[int, int, int, int]
"""The state of a file: device, inode, size in bytes, time of the last change in nanoseconds."""


def get_state(file: str | int) -> FileState:
    """Return the state of a file, given by its path or descriptor; raise OSError if it does not exist."""
    found = os.stat(file)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def check_unchanged(file: str, seen: FileState) -> None:
    """Raise a `TaskTableError` if a file changed after its rows were read: writing them would undo the change."""
    with contextlib.suppress(FileNotFoundError):
        if get_state(file) == seen:
            return
    raise describe_change(file, "docid did not replace it. ")


def describe_change(file: str, effect: str = "") -> TaskTableError:
    """Return the error for a table that another process changed."""
    wrong = f"changed by another process after docid read it. {effect}Read it again and retry"
    return TaskTableError([Problem(file, None, None, "", wrong)])


def spool(file: str) -> IO[bytes] | None:
    """Copy a pipe to a temporary file that lives as long as the result; return None for a file on disk."""
    if stat.S_ISREG(os.stat(file).st_mode) or os.path.isdir(file):
        return None
    copy = tempfile.NamedTemporaryFile(suffix=".gz" if file.endswith(".gz") else "")  # noqa: SIM115 - as documented
    with open(file, "rb") as pipe:
        shutil.copyfileobj(pipe, copy)
    copy.flush()
    return cast("IO[bytes]", copy)
