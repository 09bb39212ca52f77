"""CSV files: read them and report every fault with its row, and replace them atomically."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import stat
import time
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from docid._text import escape_controls, format_count
from docid.errors import Problem, TaskTableError

if TYPE_CHECKING:
    import io
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

_PROBLEM_LIMIT = 1000
_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{16}(\.[^.]+)?")
_DEAD_AFTER = 86_400.0  # seconds; a live writer changes its file more often
_NOT_UTF8 = "not UTF-8; save the table as UTF-8"


class Faults:
    """The faults of a table: the count of all, and the first 1,000."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.count = 0

    def add(self, row: int | None, column: str | None, value: str, expected: str) -> None:
        """Note one fault. See `Problem`."""
        self.count += 1
        if self.count <= _PROBLEM_LIMIT:
            self.problems.append(Problem(self.file, row, column, value, expected))

    def take_over(self, error: TaskTableError) -> None:
        """Note the faults of an error."""
        self.problems = [*self.problems, *error.problems][:_PROBLEM_LIMIT]
        self.count += error.count

    def raise_any(self) -> None:
        """Raise a `TaskTableError` if there are faults."""
        if self.count:
            raise TaskTableError(self.problems, self.count)


def open_table(file: str, *, bom: bool = False) -> io.TextIOBase:
    """Open a table as text, without its BOM unless `bom`; if the name ends in `.gz`, decompress it.

    Bytes that are not UTF-8 become lone surrogates, so that a fault can name their cell.
    """
    encoding = "utf-8" if bom else "utf-8-sig"
    if file.endswith(".gz"):
        import gzip  # noqa: PLC0415 - seldom needed

        return gzip.open(file, "rt", encoding=encoding, errors="surrogateescape", newline="")
    return open(file, encoding=encoding, errors="surrogateescape", newline="")


FileState = tuple[int, int, int, int]
"""The state of a file: device, inode, size in bytes, time of the last change in nanoseconds."""


def get_state(file: str) -> FileState:
    """Return the state of a file; raise OSError if it does not exist."""
    found = os.stat(file)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def check_unchanged(file: str, seen: FileState) -> None:
    """Raise a `TaskTableError` if a file changed after its rows were read: writing them would undo the change."""
    with contextlib.suppress(FileNotFoundError):
        if get_state(file) == seen:
            return
    wrong = "changed by another process after docid read it. docid did not replace it; read it again and retry"
    raise TaskTableError([Problem(file, None, None, "", wrong)])


def read_records(file: str, faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """Yield the records of a table with their numbers; the header is record 1. See `parse_records`."""
    with open_table(file) as stream:
        yield from parse_records(stream, faults)


def parse_records(stream: Iterable[str], faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """Yield the records of CSV text with their numbers from 1; note a fault for invalid CSV or gzip."""
    # The csv module limits a cell to 131,072 characters, but docid must be able to read every table that it writes.
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))
    reader = csv.reader(stream, strict=True)
    number = 0
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.add(number, None, "", f"not CSV: {error}; close every quote, and double quotes inside quoted cells")
        except (EOFError, OSError, zlib.error) as error:
            # For a file that is not gzip, gzip raises an OSError without errno. No more can be read after it.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            faults.add(number, None, "", f"not gzip: {error}; expected a complete gzip file")
            return
        else:
            if cells:  # skip blank lines
                yield number, cells


def read_columns(
    file: str, needed: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Return an iterator over row numbers and the cells of some columns; a missing `optional` column has empty cells.

    Raises:
        TaskTableError: a `needed` column is missing, at once; damaged rows, at the end.
    """
    faults = Faults(file)
    records = read_records(file, faults)
    _, header = next(records, (1, []))
    check_header(header, faults, (*needed, *optional))
    for name in needed:
        if name not in header:
            faults.add(1, name, "", f"missing from the header; the columns are {format_names(header) or 'none'}")
    faults.raise_any()
    return select_cells(records, header, (*needed, *optional), faults)


def select_cells(
    records: Iterable[tuple[int, list[str]]], header: Sequence[str], wanted: Sequence[str | None], faults: Faults
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the number of each record with its cells in the `wanted` columns; raise all faults at the end."""
    # Missing columns read from an extra, empty cell at the end of each record.
    positions = [header.index(name) if name in header else len(header) for name in wanted]
    for number, cells in records:
        if not is_damaged(number, cells, header, faults):
            cells.append("")
            yield number, tuple([cells[position] for position in positions])
    faults.raise_any()


def check_header(header: Sequence[str], faults: Faults, names: Iterable[str]) -> None:
    """Note each of `names` that a header repeats; raise a `TaskTableError` unless it is UTF-8 with commas."""
    text = ",".join(header)
    if text.startswith(("\udcff\udcfe", "\udcfe\udcff")):  # the BOMs of UTF-16, as open_table decodes them
        faults.add(None, None, "", "UTF-16; save the table as UTF-8 (in a spreadsheet: 'CSV UTF-8')")
    elif not _is_utf8(text):
        faults.add(1, None, text, _NOT_UTF8)
    elif len(header) == 1 and (separator := next((each for each in ";\t|" if each in header[0]), None)):
        faults.add(1, None, header[0], f"separated by {separator!r}; expected commas")
    faults.raise_any()
    for name in names:
        if header.count(name) > 1:
            faults.add(1, name, "", "repeated; expected each column once")


def _is_utf8(text: str) -> bool:
    """Return whether text from `open_table` was valid UTF-8."""
    return text.isascii() or re.search("[\udc80-\udcff]", text) is None


def is_damaged(number: int, cells: Sequence[str], header: Sequence[str], faults: Faults) -> bool:
    """Return whether a record is not UTF-8, or has more or fewer cells than the header; note it as a fault."""
    if len(cells) != len(header):
        faults.add(number, None, "", f"{format_count(len(cells), 'cell')}; expected {len(header):,}, as in the header")
        return True
    if _is_utf8("".join(cells)):
        return False
    for name, text in zip(header, cells, strict=True):
        if not _is_utf8(text):
            faults.add(number, name, text, _NOT_UTF8)
    return True


def find_misspelling(name: str, header: Collection[str]) -> str | None:
    """Return a column that equals `name` except for case, blanks, `_` and `-`; None if `name` itself is a column."""

    def fold(text: str) -> str:
        return re.sub(r"[\s_-]", "", text).casefold()

    return None if name in header else next((each for each in header if fold(each) == fold(name)), None)


def format_names(header: Sequence[str]) -> str:
    """Format column names for a message: the first 20, each up to 60 characters."""
    names = [escape_controls(name[:60] + "…" * bool(name[60:])) for name in header[:20]]
    return ", ".join(names + ["…"] * bool(header[20:]))


class Shape(NamedTuple):
    """The line ending, BOM and columns of a table."""

    newline: str = "\n"
    bom: bool = False
    columns: tuple[str, ...] = ()


def read_shape(file: str) -> Shape:
    """Return the shape of a table, without columns if it has no header; raise a `TaskTableError` as reading does."""
    lines: list[str] = []

    def note_lines(stream: io.TextIOBase) -> Iterator[str]:
        for line in stream:
            lines.append(line)
            yield line.removeprefix("\ufeff") if len(lines) == 1 else line

    faults = Faults(file)
    with open_table(file, bom=True) as stream:
        # This reads only the header's lines. The last of them ends as the table's lines do.
        _, header = next(parse_records(note_lines(stream), faults), (1, []))
    check_header(header, faults, ())
    first, last = (lines[0], lines[-1]) if lines else ("", "")
    return Shape("\r\n" if last.endswith("\r\n") else "\n", first.startswith("\ufeff"), tuple(header))


class AtomicFile:
    """A temporary file that replaces a file when complete: `stream` takes the bytes, `commit` renames it.

    `temporary` is its path; empty after `commit` or `discard`.
    """

    def __init__(self, path: str) -> None:
        # Replace the file itself, not a symbolic link to it, so that the user's link survives.
        self._target = os.path.realpath(path)
        ending = os.path.splitext(path)[1]
        self.temporary = os.path.join(os.path.dirname(self._target), f".tmp-{os.urandom(8).hex()}{ending}")
        # Use the old file's permissions from the start: the content may be private.
        mode = 0o666
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(os.stat(self._target).st_mode)
        try:
            self.stream: io.BufferedWriter = open(  # noqa: SIM115 - closed by commit and discard
                self.temporary, "xb", opener=lambda path, flags: os.open(path, flags, mode)
            )
        except OSError as error:
            hint = "; docid must be able to create a temporary file in the same directory"
            problem = f"{error.strerror}{hint if isinstance(error, PermissionError) else ''}"
            raise OSError(error.errno, problem, path) from error
        _remove_dead(os.path.dirname(self._target))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def commit(self) -> None:
        """Rename the file into place, durably, with the permissions of the old file."""
        with self.stream:
            self.stream.flush()
            os.fsync(self.stream.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.chmod(self.temporary, os.stat(self._target).st_mode & 0o7777)
        os.replace(self.temporary, self._target)
        self.temporary = ""
        if os.name == "posix":  # pragma: no branch  - Windows has no sync of directories
            directory = os.open(os.path.dirname(self._target), os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def discard(self) -> None:
        """Delete the temporary file, unless it was committed."""
        # Closing flushes the buffer, which fails again on a full disk.
        with contextlib.suppress(OSError):
            self.stream.close()
        if self.temporary:
            os.unlink(self.temporary)
            self.temporary = ""


def _remove_dead(directory: str) -> None:
    """Remove the temporary files of killed writers from a directory: those that have not changed for a day."""
    # Another process may remove them, or own them.
    with contextlib.suppress(FileNotFoundError, PermissionError), os.scandir(directory) as entries:
        for entry in entries:
            is_temporary = _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            if is_temporary and time.time() - entry.stat().st_mtime >= _DEAD_AFTER:
                os.unlink(entry)


class TableWriter:
    """Writes a table to a temporary file; `commit` renames it into place."""

    def __init__(self, file: str, shape: Shape) -> None:
        self.count = 0
        self.file = file
        self._shape = shape
        self._gz = file.endswith(".gz")
        self._header: dict[str, None] = {}  # in order
        self._new: AtomicFile | None = None
        self._stream: Any = None
        # With this line ending, every version of the csv module quotes both \r and \n. `write` replaces it.
        self._writer = csv.writer(self, lineterminator="\r\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._new is not None:
            with contextlib.suppress(OSError):  # as in discard
                self._stream.close()
            self._new.discard()

    def start(self, header: tuple[str, ...]) -> None:
        """Open the temporary file and write the header."""
        self._new = AtomicFile(self.file)
        self._stream = self._new.stream
        if self._gz:
            import gzip  # noqa: PLC0415 - as above

            # Leave out name and time, so that equal tables give equal files.
            self._stream = gzip.GzipFile("", "wb", fileobj=self._new.stream, mtime=0)
        self._header = dict.fromkeys(header)
        if self._shape.bom or header[0].startswith("\ufeff"):
            self._stream.write("\ufeff".encode())
        self._writer.writerow(header)

    def write(self, line: str) -> None:
        """Write one line of the csv module, with the table's line ending."""
        self._stream.write((line[:-2] + self._shape.newline).encode())

    def add(self, number: int, texts: Mapping[str, str]) -> None:
        """Write one row, given as texts by column; add a new column with text to the earlier rows too."""
        try:
            if not self._header:
                self.start(tuple(texts))
            elif new := tuple(name for name, text in texts.items() if text and name not in self._header):
                self._widen(new)
            self._writer.writerow([texts.get(name, "") for name in self._header])
        except UnicodeEncodeError:
            name = next(name for name, text in texts.items() if re.search("[\ud800-\udfff]", name + text))
            problem = Problem(self.file, number, name, texts[name], "expected text that UTF-8 can hold")
            raise TaskTableError([problem]) from None
        self.count += 1

    def commit(self) -> None:
        """Rename the table into place, durably."""
        if self._gz:
            self._stream.close()
        cast("AtomicFile", self._new).commit()

    def _widen(self, new: tuple[str, ...]) -> None:
        """Rewrite the earlier rows with more columns."""
        narrow = cast("AtomicFile", self._new)
        self._stream.close()
        narrow.stream.close()
        try:
            rows = read_records(narrow.temporary, Faults(narrow.temporary))
            _, header = next(rows)
            self.start((*header, *new))
            for _, cells in rows:
                self._writer.writerow([*cells, *[""] * len(new)])
        finally:
            narrow.discard()
