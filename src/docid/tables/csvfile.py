"""CSV files: read them and report every fault with its row, and replace them atomically."""

from __future__ import annotations

import contextlib
import csv
import errno
import os
import re
import stat
import time
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from docid._files import (
    ignore_system_errors,
    is_link,
    is_system_error,
    raise_time_limit,
    sync_directory,
    sync_file,
)
from docid.errors import Problem, TaskTableError
from docid.tables.faults import Faults
from docid.tables.headers import (
    DELIMITERS,
    LOOKS_ALIKE,
    QUOTE_AFTER_BLANK,
    build_check,
    check_header,
    find_misspelling,
    fold_name,
    format_names,
    has_quote_after_blank,
    make_header,
    show_name,
)
from docid.tables.opening import DAMAGE, FileState, describe_damage, get_state, open_table

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from docid.tables.headers import Header

_SEPARATOR_LINE = re.compile(r'"?sep=([^\r\n"])"?\r?\n?', re.IGNORECASE)
_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{16}(\.[^.]+)?")
_DEAD_AFTER = 86_400.0  # seconds; a live writer changes its file more often


def open_records(path: str, faults: Faults, delimiter: str = ",") -> tuple[FileState, Generator[tuple[int, list[str]]]]:
    """Open a table: return its state and its records. Take the first record at once; the iterator closes the file.

    Args:
        path: the table, or a copy of it. Messages name the file of `faults`.
        faults: takes the faults.
        delimiter: the delimiter, unless the first line is `sep=…`.
    """
    stream = open_table(path, faults.file)

    def read_all() -> Generator[tuple[int, list[str]]]:
        with stream:
            yield from parse_records(stream, faults, delimiter)

    try:
        return get_state(stream.fileno()), read_all()
    except BaseException:
        stream.close()
        raise


def read_records(file: str, faults: Faults, delimiter: str = ",") -> Generator[tuple[int, list[str]]]:
    """Yield the records of a table with their numbers; the header is record 1. See `parse_records`."""
    with open_table(file) as stream:
        yield from parse_records(stream, faults, delimiter)


def parse_records(stream: Iterable[str], faults: Faults, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Yield the records of CSV text with their numbers from 1; note a fault for invalid CSV, text or gzip.

    Blank lines and lines of delimiters alone are left out, but counted. A first line `sep=…` sets the delimiter.

    Raises:
        TaskTableError: the first record is not CSV.
    """
    # The csv module limits a cell to 131,072 characters, but docid must be able to read every table that it writes.
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))
    raw: list[str] = []  # the lines of the current record
    lines = _note_lines(stream, raw)
    try:
        first = next(lines, "")
    except DAMAGE as error:
        raise_time_limit(error)
        faults.add(1, None, "", describe_damage(error))
        return
    found = _SEPARATOR_LINE.fullmatch(first)
    delimiter = found[1] if found else delimiter
    may_have_quotes = re.compile(f'(?:^|{re.escape(delimiter)})[^"\\w!-~]+"')  # after a blank, or a letter like a blank
    reader = csv.reader(lines if found else chain([first], lines), strict=True, delimiter=delimiter)
    number, is_first = 0, True
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.add(number, None, "", f"not CSV: {error}; close every quote, and double quotes inside quoted cells")
            if is_first:  # the next record is not the header
                faults.raise_any()
        except DAMAGE as error:  # no more can be read after it
            raise_time_limit(error)
            faults.add(number, None, "", describe_damage(error))
            return
        else:
            if cells and (cells[0].strip() or any(map(str.strip, cells))):
                is_first = False
                text = raw[0] if len(raw) == 1 else "".join(raw)
                if '"' in text and may_have_quotes.search(text):
                    _check_quotes(number, cells, text, faults)
                yield number, cells
        raw.clear()


def _note_lines(stream: Iterable[str], raw: list[str]) -> Iterator[str]:
    """Yield the lines of a stream, and append each to `raw`."""
    for line in stream:
        raw.append(line)
        yield line


def _check_quotes(number: int, cells: Sequence[str], raw: str, faults: Faults) -> None:
    """Note a cell with quotes after a blank: to a CSV reader they are part of the text."""
    for text in cells:
        # If the whole cell is quoted, its text is as it should be.
        if has_quote_after_blank(text) and '"{}"'.format(text.replace('"', '""')) not in raw:
            faults.add(number, None, text, QUOTE_AFTER_BLANK)
            return


def read_columns(
    file: str, needed: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Return an iterator over row numbers and the cells of some columns; a missing `optional` column has empty cells.

    The delimiter is the one that gives the header the first `needed` column.

    Raises:
        TaskTableError: a `needed` column is missing, or a column is misspelled, at once; damaged rows, at the end.
    """
    faults = Faults(file)
    # A pipe can be read only once.
    delimiter = detect_delimiter(file, needed[0]) if os.path.isfile(file) else ","
    records = read_records(file, faults, delimiter)
    _, cells = next(records, (1, []))
    faults.raise_any()
    names = (*needed, *optional)
    check_header(cells, faults, names)
    for name in names:
        if other := find_misspelling(name, cells, names):
            what = LOOKS_ALIKE if name in cells else "missing from the header"
            faults.add(1, name, "", f"{what}; is {show_name(other, name)} misspelled?")
        elif name in needed and name not in cells:
            faults.add(1, name, "", f"missing from the header; the columns are {format_names(cells) or 'none'}")
    faults.raise_any()
    return select_cells(records, make_header(cells, needed), names, faults)


def select_cells(
    records: Iterable[tuple[int, list[str]]], header: Header, wanted: Sequence[str | None], faults: Faults
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the number of each record with its cells in the `wanted` columns; raise all faults at the end."""
    is_damaged = build_check(header, faults)
    columns = header.columns
    # Missing columns read from an extra, empty cell at the end of each record.
    positions = [columns.index(name) if name in columns else len(columns) for name in wanted]
    for number, cells in records:
        if not is_damaged(number, cells):
            cells.append("")
            yield number, tuple([cells[position] for position in positions])
    faults.raise_any()


def detect_delimiter(file: str, column: str | None) -> str:
    """Return the delimiter that gives the header of a table the column, else a comma; without one, the most columns."""
    found: dict[str, list[str]] = {}
    for delimiter in DELIMITERS:
        with (
            contextlib.suppress(TaskTableError),
            contextlib.closing(read_records(file, Faults(file), delimiter)) as records,
        ):
            found[delimiter] = next(records, (1, []))[1]
    folded = {each: {fold_name(name) for name in header} for each, header in found.items()}
    if column is not None:
        return next((each for each, names in folded.items() if fold_name(column) in names), ",")
    return max(found, key=lambda each: len(found[each]), default=",")


class Shape(NamedTuple):
    """How a table is written: line ending, BOM, columns, delimiter, encoding, and the text of a first line `sep=…`."""

    newline: str = "\n"
    bom: bool = False
    columns: tuple[str, ...] = ()
    delimiter: str = ","
    encoding: str = "utf-8"
    separator_line: str = ""


def read_shape(file: str, delimiter: str = ",") -> Shape:
    """Return the shape of a table, without columns if it has no header; raise a `TaskTableError` as reading does."""
    lines: list[str] = []

    def note_lines() -> Iterator[str]:
        for line in stream:
            lines.append(line)
            yield line

    faults = Faults(file)
    with open_table(file) as stream:
        # This reads only the header's lines. The last of them ends as the table's lines do.
        _, header = next(parse_records(note_lines(), faults, delimiter), (1, []))
    faults.raise_any()
    first, last = (lines[0], lines[-1]) if lines else ("", "")
    found = _SEPARATOR_LINE.fullmatch(first)
    delimiter = found[1] if found else delimiter
    check_header(header, faults, (), delimiter)
    faults.raise_any()
    encoding = stream.encoding
    return Shape(
        "\r\n" if last.endswith("\r\n") else "\n",
        encoding != "utf-8",
        tuple(header),
        delimiter,
        encoding.removesuffix("-sig"),
        first.rstrip("\r\n") if found else "",
    )


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    """Hold an advisory lock on a file, if the platform and the file system have them.

    Of two processes that replace a file, the second gets the lock of the old file when the first has renamed its own.
    So its check sees the change.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError), ignore_system_errors:
            import fcntl  # noqa: PLC0415 - not on Windows

            descriptor = os.open(path, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


# The errors of chmod(2) on file systems that do not keep modes.
_CANNOT_CHMOD = frozenset(
    {errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP},
)


class AtomicFile:
    """A temporary file that replaces a file when complete: `stream` takes the bytes, `commit` renames it.

    `temporary` is its path; empty after `commit` or `discard`.
    """

    def __init__(self, path: str) -> None:
        # Replace the file itself, not a symbolic link to it, so that the user's link survives.
        self._target = os.path.realpath(path) if is_link(path) else os.path.join(os.getcwd(), path)
        ending = os.path.splitext(path)[1]
        self.temporary = os.path.join(os.path.dirname(self._target), f".tmp-{os.urandom(8).hex()}{ending}")
        _remove_dead(os.path.dirname(self._target))
        # Use the old file's permissions from the start: the content may be private.
        mode = 0o666
        with ignore_system_errors:
            mode = stat.S_IMODE(os.stat(self._target).st_mode)
        try:
            self.stream: io.BufferedWriter = open(  # noqa: SIM115 - closed by commit and discard
                self.temporary, "xb", opener=lambda path, flags: os.open(path, flags, mode)
            )
        except BaseException as error:
            if not isinstance(error, OSError) or not is_system_error(error):
                with ignore_system_errors:
                    os.unlink(self.temporary)
                raise
            hint = "; docid must be able to create a temporary file in the same directory"
            problem = f"{error.strerror}{hint if isinstance(error, PermissionError) else ''}"
            raise OSError(error.errno, problem, path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def commit(self, check: Callable[[], None] | None = None) -> None:
        """Rename the file into place, durably, with the permissions of the old file.

        docid calls `check` just before the rename; if it raises an error, the old file stays.
        """
        with self.stream:
            self.stream.flush()
            sync_file(self.stream.fileno())
        self._keep_mode()
        with contextlib.ExitStack() as stack:
            if check is not None:
                stack.enter_context(_lock(self._target))
                check()
            os.replace(self.temporary, self._target)
        self.temporary = ""
        if os.name == "posix":  # pragma: no branch  - Windows has no sync of directories
            directory = os.open(os.path.dirname(self._target), os.O_RDONLY)
            try:
                sync_directory(directory)
            finally:
                os.close(directory)

    def _keep_mode(self) -> None:
        """Give the new file the permissions of the old one, if there is one and the file system keeps permissions."""
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(os.stat(self._target).st_mode)
            if stat.S_IMODE(os.stat(self.temporary).st_mode) == mode:
                return
            try:
                os.chmod(self.temporary, mode)
            except OSError as error:
                # The file is ours and new. So if its mode cannot be set, this file system does not keep modes.
                if error.errno not in _CANNOT_CHMOD:
                    raise

    def discard(self) -> None:
        """Delete the temporary file, unless it was committed."""
        try:
            # Closing flushes the buffer, which fails again on a full disk.
            with ignore_system_errors:
                self.stream.close()
        finally:
            if self.temporary:
                with ignore_system_errors:
                    os.unlink(self.temporary)
                self.temporary = ""


def _remove_dead(directory: str) -> None:
    """Remove the temporary files of killed writers from a directory: those that have not changed for a day."""
    # Another process may remove them, or own them.
    with ignore_system_errors, os.scandir(directory) as entries:
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
        self._writer = csv.writer(self, lineterminator="\r\n", delimiter=shape.delimiter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._new is not None:
            try:
                with ignore_system_errors:  # as in discard
                    self._stream.close()
            finally:
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
            self._stream.write("\ufeff".encode(self._shape.encoding))
        if self._shape.separator_line:
            self.write(self._shape.separator_line + "\r\n")
        self._writer.writerow(header)

    def write(self, line: str) -> None:
        """Write one line of the csv module, with the table's line ending."""
        self._stream.write((line[:-2] + self._shape.newline).encode(self._shape.encoding))

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

    def commit(self, check: Callable[[], None] | None = None) -> None:
        """Rename the table into place, durably. See `AtomicFile.commit`."""
        if self._gz:
            self._stream.close()
        cast("AtomicFile", self._new).commit(check)

    def _widen(self, new: tuple[str, ...]) -> None:
        """Rewrite the earlier rows with more columns."""
        narrow = cast("AtomicFile", self._new)
        self._stream.close()
        narrow.stream.close()
        try:
            rows = read_records(narrow.temporary, Faults(narrow.temporary), self._shape.delimiter)
            _, header = next(rows)
            self.start((*header, *new))
            for _, cells in rows:
                self._writer.writerow([*cells, *[""] * len(new)])
        finally:
            narrow.discard()
