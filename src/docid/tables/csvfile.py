"""CSV files: reading them with every fault and its row, and replacing them atomically."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import stat
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from docid._text import escape_controls
from docid.errors import Problem, TaskTableError

if TYPE_CHECKING:
    import io
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

_PROBLEM_LIMIT = 1000
_NOT_UTF8 = "not UTF-8; expected the table saved as UTF-8"


class Faults:
    """The faults of a table: all are counted, the first 1,000 are kept."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.count = 0

    def add(self, row: int | None, column: str | None, value: str, expected: str) -> None:
        """Note one fault, as `Problem` describes it."""
        self.count += 1
        if self.count <= _PROBLEM_LIMIT:
            self.problems.append(Problem(self.file, row, column, value, expected))

    def take_over(self, error: TaskTableError) -> None:
        """Note the faults of an error too."""
        self.problems = [*self.problems, *error.problems][:_PROBLEM_LIMIT]
        self.count += error.count

    def raise_any(self) -> None:
        """Raise a `TaskTableError` if there are faults."""
        if self.count:
            raise TaskTableError(self.problems, self.count)


def open_table(file: str, *, bom: bool = False) -> io.TextIOBase:
    """Open a table for reading, as text without its BOM (unless `bom`); gzip where the name ends in `.gz`.

    Bytes that are not UTF-8 become lone surrogates, so that a fault can name their cell.
    """
    encoding = "utf-8" if bom else "utf-8-sig"
    if file.endswith(".gz"):
        import gzip  # noqa: PLC0415 - only where it is needed

        return gzip.open(file, "rt", encoding=encoding, errors="surrogateescape", newline="")
    return open(file, encoding=encoding, errors="surrogateescape", newline="")


FileState = tuple[int, int, int, int]
"""The identity and content of a file: device, inode, size in bytes, time of the last change in nanoseconds."""


def get_state(file: str) -> FileState:
    """Return the state of a file; raise OSError if there is none."""
    found = os.stat(file)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def check_unchanged(file: str, seen: FileState) -> None:
    """Raise a `TaskTableError` if a file changed since its rows were read: writing them would undo that change."""
    with contextlib.suppress(FileNotFoundError):
        if get_state(file) == seen:
            return
    wrong = "changed by somebody else since its rows were read; nothing was written: do it again with what it is now"
    raise TaskTableError([Problem(file, None, None, "", wrong)])


def read_records(file: str, faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """Yield the records of a table with their numbers, from 1, the header first. See `parse_records`."""
    with open_table(file) as stream:
        yield from parse_records(stream, faults)


def parse_records(stream: Iterable[str], faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """Yield the records of CSV text with their numbers, from 1; note as a fault what is not CSV or not gzip."""
    # The csv module limits a cell to 131,072 characters. A table that docid wrote has to be readable again.
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
            faults.add(number, None, "", f"not CSV: {error}; expected quotes closed, and doubled inside of quotes")
        except (EOFError, OSError, zlib.error) as error:
            # gzip raises an OSError without errno for a file that is no gzip file. Nothing can be read after that.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            faults.add(number, None, "", f"not gzip: {error}; expected a whole file")
            return
        else:
            if cells:  # a blank line is no row
                yield number, cells


def read_columns(
    file: str, needed: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Read some columns of a table as a stream of row numbers and cells, empty for a missing column of `optional`.

    It raises a `TaskTableError` at once where a column of `needed` is missing, and at the end for damaged rows.
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
    """Yield the number of each record with its cells of the `wanted` columns; raise all faults at the end."""
    # Each record gets one more cell, an empty one, for the columns that are missing.
    positions = [header.index(name) if name in header else len(header) for name in wanted]
    for number, cells in records:
        if not is_damaged(number, cells, header, faults):
            cells.append("")
            yield number, tuple([cells[position] for position in positions])
    faults.raise_any()


def check_header(header: Sequence[str], faults: Faults, names: Iterable[str]) -> None:
    """Note which of some names a header has twice; raise a `TaskTableError` unless it is UTF-8 with commas."""
    text = ",".join(header)
    if text.startswith(("\udcff\udcfe", "\udcfe\udcff")):  # the BOMs of UTF-16, as open_table decodes them
        faults.add(None, None, "", "UTF-16; expected the table saved as UTF-8 (of a spreadsheet: 'CSV UTF-8')")
    elif not _is_utf8(text):
        faults.add(1, None, text, _NOT_UTF8)
    elif len(header) == 1 and (separator := next((each for each in ";\t|" if each in header[0]), None)):
        faults.add(1, None, header[0], f"separated by {separator!r}; expected commas")
    faults.raise_any()
    for name in names:
        if header.count(name) > 1:
            faults.add(1, name, "", "there twice; expected each column once")


def _is_utf8(text: str) -> bool:
    """Return whether text from `open_table` stands for bytes that are UTF-8."""
    return text.isascii() or re.search("[\udc80-\udcff]", text) is None


def is_damaged(number: int, cells: Sequence[str], header: Sequence[str], faults: Faults) -> bool:
    """Return whether a record has another number of cells than the header, or is not UTF-8; note it as a fault."""
    if len(cells) != len(header):
        faults.add(number, None, "", f"{len(cells)} cells; expected {len(header)}, as in the header")
        return True
    if _is_utf8("".join(cells)):
        return False
    for name, text in zip(header, cells, strict=True):
        if not _is_utf8(text):
            faults.add(number, name, text, _NOT_UTF8)
    return True


def find_misspelling(name: str, header: Collection[str]) -> str | None:
    """Return the column that is `name` except for case, blanks, `_` and `-`; None where `name` itself is a column."""

    def fold(text: str) -> str:
        return re.sub(r"[\s_-]", "", text).casefold()

    return None if name in header else next((each for each in header if fold(each) == fold(name)), None)


def format_names(header: Sequence[str]) -> str:
    """Return the names of columns for a message: the first 20, each up to 60 characters."""
    names = [escape_controls(name[:60] + "…" * bool(name[60:])) for name in header[:20]]
    return ", ".join(names + ["…"] * bool(header[20:]))


class Shape(NamedTuple):
    """The line end, BOM and columns of a table."""

    newline: str = "\n"
    bom: bool = False
    columns: tuple[str, ...] = ()


def read_shape(file: str) -> Shape:
    """Return the shape of a table, without columns where it has no header; raise a `TaskTableError` as reading does."""
    lines: list[str] = []

    def note_lines(stream: io.TextIOBase) -> Iterator[str]:
        for line in stream:
            lines.append(line)
            yield line.removeprefix("\ufeff") if len(lines) == 1 else line

    faults = Faults(file)
    with open_table(file, bom=True) as stream:
        # This reads the lines of the header alone; the last one ends as the lines of the table do.
        _, header = next(parse_records(note_lines(stream), faults), (1, []))
    check_header(header, faults, ())
    first, last = (lines[0], lines[-1]) if lines else ("", "")
    return Shape("\r\n" if last.endswith("\r\n") else "\n", first.startswith("\ufeff"), tuple(header))


class AtomicFile:
    """A file that is written beside its place: `stream` takes the bytes, and `commit` puts the file there.

    `temporary` is its path until then, and empty when it is in its place, or discarded.
    """

    def __init__(self, path: str) -> None:
        # The file itself, not a link to it: a link that somebody set up stays one.
        self._target = os.path.realpath(path)
        ending = os.path.splitext(path)[1]
        self.temporary = os.path.join(os.path.dirname(self._target), f".tmp-{os.urandom(8).hex()}{ending}")
        # With the permissions of the old file from the start: it may hold what others must not see.
        mode = 0o666
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(os.stat(self._target).st_mode)
        try:
            self.stream: io.BufferedWriter = open(  # noqa: SIM115 - closed by commit and discard
                self.temporary, "xb", opener=lambda path, flags: os.open(path, flags, mode)
            )
        except OSError as error:
            hint = "; a new file is made in its directory, and takes its place"
            problem = f"{error.strerror}{hint if isinstance(error, PermissionError) else ''}"
            raise OSError(error.errno, problem, path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def commit(self) -> None:
        """Put the file in its place, durably, with the permissions of the old file."""
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
        """Remove what was written, unless it is in its place."""
        # Closing writes the rest of a buffer; on a full disk that fails again.
        with contextlib.suppress(OSError):
            self.stream.close()
        if self.temporary:
            os.unlink(self.temporary)
            self.temporary = ""


class TableWriter:
    """A table that is written beside its place; `commit` puts it there when it is whole."""

    def __init__(self, file: str, shape: Shape) -> None:
        self.count = 0
        self.file = file
        self._shape = shape
        self._gz = file.endswith(".gz")
        self._header: dict[str, None] = {}  # in order
        self._new: AtomicFile | None = None
        self._stream: Any = None
        # With this line end the csv module quotes both \r and \n, in all its versions; write() replaces it.
        self._writer = csv.writer(self, lineterminator="\r\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._new is not None:
            with contextlib.suppress(OSError):  # as in discard
                self._stream.close()
            self._new.discard()

    def start(self, header: tuple[str, ...]) -> None:
        """Open a file for the table and write its header."""
        self._new = AtomicFile(self.file)
        self._stream = self._new.stream
        if self._gz:
            import gzip  # noqa: PLC0415 - as above

            # Without name and time, so that equal tables are equal files.
            self._stream = gzip.GzipFile("", "wb", fileobj=self._new.stream, mtime=0)
        self._header = dict.fromkeys(header)
        if self._shape.bom or header[0].startswith("\ufeff"):
            self._stream.write("\ufeff".encode())
        self._writer.writerow(header)

    def write(self, line: str) -> None:
        """Take one line from the csv module."""
        self._stream.write((line[:-2] + self._shape.newline).encode())

    def add(self, number: int, texts: Mapping[str, str]) -> None:
        """Write one row, given as texts by column; a new column with a text is added to the rows before too."""
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
        """Put the table in its place, durably."""
        if self._gz:
            self._stream.close()
        cast("AtomicFile", self._new).commit()

    def _widen(self, new: tuple[str, ...]) -> None:
        """Write the rows so far again, with more columns."""
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
