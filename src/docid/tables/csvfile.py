"""Tables as CSV files: reading them record by record with all their faults, and replacing them atomically."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import zlib
from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from docid._text import visible
from docid.errors import Problem, TaskTableError

if TYPE_CHECKING:
    import io
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from docid.tables.atomicfile import AtomicFile

_KEPT_PROBLEMS = 1000


class Faults:
    """The faults of a table: the first of them whole, all of them counted."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.count = 0

    def add(self, row: int | None, column: str | None, value: str, expected: str) -> None:
        """Note one fault; the arguments are those of `Problem`."""
        self.count += 1
        if self.count <= _KEPT_PROBLEMS:
            self.problems.append(Problem(self.file, row, column, value, expected))

    def take_over(self, error: TaskTableError) -> None:
        """Note the faults of an error as one's own."""
        self.problems = [*self.problems, *error.problems][:_KEPT_PROBLEMS]
        self.count += error.count

    def raise_any(self) -> None:
        """Raise a `TaskTableError` if there are faults."""
        if self.count:
            raise TaskTableError(self.problems, self.count)


def open_table(file: str, *, bom: bool = False, gz: bool | None = None) -> io.TextIOBase:
    """Open a table for reading, its BOM left out unless asked for; compressed where its name says so, or `gz`.

    Bytes that are not UTF-8 come as lone surrogates, to be reported with their cell.
    """
    encoding = "utf-8" if bom else "utf-8-sig"
    if file.endswith(".gz") if gz is None else gz:
        import gzip  # noqa: PLC0415 - only where it is needed: importing docid is to cost little

        return gzip.open(file, "rt", encoding=encoding, errors="surrogateescape", newline="")
    return open(file, encoding=encoding, errors="surrogateescape", newline="")


FileState = tuple[int, int, int, int]
"""Which file it is, and what it held: device, inode, size in bytes, time of the last change in nanoseconds."""


def state_of(file: str | int) -> FileState:
    """Return the state of a file, given as a path or descriptor.

    Raises:
        OSError: there is none.
    """
    there = os.stat(file)
    return there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns


def check_unchanged(file: str, seen: FileState) -> None:
    """Refuse a table that is another by now than the one whose rows were read.

    Raises:
        TaskTableError: it is; what was made of those rows would undo what somebody else has written meanwhile.
    """
    with contextlib.suppress(FileNotFoundError):
        if state_of(file) == seen:
            return
    wrong = "changed by somebody else since its rows were read; nothing was written: do it again with what it is now"
    raise TaskTableError([Problem(file, None, None, "", wrong)])


def records_of(stream: Iterable[str], faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """Return the records of a CSV file with their numbers, from 1; what cannot be read becomes a fault."""
    # The module's own limit of 131,072 characters a cell is one setting for the whole process; a table that was
    # written has to be readable again.
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
            # gzip: a file cut off, or no gzip file at all. Nothing comes after that.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            faults.add(number, None, "", f"not gzip: {error}; expected a whole file")
            return
        else:
            if cells:  # a blank line is no row
                yield number, cells


def picked(
    records: Iterable[tuple[int, list[str]]], columns: Sequence[str], wanted: Sequence[str], faults: Faults
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Return of each record, behind its number, the cells of the `wanted` columns, as they stand.

    Empty for a column that is not there. Damaged records become faults and are left out.
    """
    # Behind the last cell of every row one is added that is empty, for the columns that are not there.
    width = len(columns)
    positions = [columns.index(name) if name in columns else width for name in wanted]
    # Of one position alone it would return no tuple.
    pick = itemgetter(*positions) if len(positions) > 1 else itemgetter(slice(positions[0], positions[0] + 1))
    for number, cells in records:
        if not is_damaged(number, cells, columns, faults):
            cells.append("")
            yield number, pick(cells)


def read_columns(
    file: str, needed: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Read of a table the cells of some columns, with the numbers of the rows. A stream.

    Raises:
        TaskTableError: a column of `needed` is missing, at once; rows that are damaged, at the end. They are left out.
        OSError: the file cannot be read.
    """
    cells = _read_columns(file, needed, optional)
    next(cells)  # the header is read, and its faults are raised, here
    return cells


def _read_columns(file: str, needed: Sequence[str], optional: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    faults = Faults(file)
    with open_table(file) as stream:
        records = records_of(stream, faults)
        _, header = next(records, (1, []))
        check_header(header, faults, (*needed, *optional))
        faults.raise_any()
        for name in needed:
            if name not in header:
                faults.add(1, name, "", f"missing from the header; the columns are {names_shown(header) or 'none'}")
        faults.raise_any()
        yield 1, ()
        yield from picked(records, header, (*needed, *optional), faults)
    faults.raise_any()


def check_header(header: Sequence[str], faults: Faults, names: Iterable[str]) -> bool:
    """Return whether columns can be looked up in a header; note what is wrong, and which `names` it has twice."""
    if _is_of_other_encoding(header, faults):
        return False
    if len(header) == 1 and (separator := next((each for each in ";\t|" if each in header[0]), None)):
        faults.add(1, None, header[0], f"separated by {separator!r}; expected commas")
        return False
    counts = Counter(header)
    for name in names:
        if counts[name] > 1:
            faults.add(1, name, "", "there twice; expected each column once")
    return True


def _is_of_other_encoding(header: Sequence[str], faults: Faults) -> bool:
    text = ",".join(header)
    if text.startswith(_UTF16_BOMS):
        faults.add(None, None, "", "UTF-16; expected the table saved as UTF-8 (of a spreadsheet: 'CSV UTF-8')")
    elif _not_utf8(text):
        faults.add(1, None, text, _NOT_UTF8)
    else:
        return False
    return True


_UTF16_BOMS = ("\udcff\udcfe", "\udcfe\udcff")  # as open_table gives them


def misspelt(name: str, header: Collection[str]) -> str | None:
    """Return the column that is `name` but for case, blanks, `_` and `-`, where there is none of that name."""
    if name in header:
        return None
    return next((each for each in header if _folded(each) == _folded(name)), None)


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


def is_damaged(number: int, cells: Sequence[str], columns: Sequence[str], faults: Faults) -> bool:
    """Return whether a record is none of a table with these columns, or not UTF-8; note what is wrong."""
    if len(cells) != len(columns):
        faults.add(number, None, "", f"{len(cells)} cells; expected {len(columns)}, as in the header")
        return True
    if not _not_utf8("".join(cells)):
        return False
    for name, text in zip(columns, cells, strict=True):
        if _not_utf8(text):
            faults.add(number, name, text, _NOT_UTF8)
    return True


_NOT_UTF8 = "not UTF-8; expected the table saved as UTF-8"
_COLUMNS_SHOWN = 20  # of a header, in a message


def names_shown(header: Sequence[str]) -> str:
    """Return the names of columns for a message, the first ones."""
    names = [visible(name if len(name) <= _NAME_SHOWN else f"{name[:_NAME_SHOWN]}…") for name in header]
    return ", ".join(names[:_COLUMNS_SHOWN]) + (", …" if len(names) > _COLUMNS_SHOWN else "")


_NAME_SHOWN = 60


def _not_utf8(text: str) -> bool:
    """Return whether `text`, from `open_table`, stands for bytes that are not UTF-8."""
    return not text.isascii() and re.search("[\udc80-\udcff]", text) is not None


class Shape(NamedTuple):
    """What a table looks like beside its text."""

    newline: str = "\n"
    bom: bool = False
    columns: tuple[str, ...] = ()


def shape_of(file: str) -> Shape:
    """Return the shape of a table. Where it has no header its columns are none.

    Raises:
        TaskTableError: it cannot be read.
    """
    first: list[str] = []

    def lines(stream: io.TextIOBase) -> Iterator[str]:
        for line in stream:
            first.append(line)
            yield line.removeprefix("\ufeff") if len(first) == 1 else line

    faults = Faults(file)
    with open_table(file, bom=True) as stream:
        # The lines of the header alone: its last one ends as the table's lines do.
        _, header = next(records_of(lines(stream), faults), (1, []))
    _is_of_other_encoding(header, faults)
    faults.raise_any()
    newline = "\r\n" if first and first[-1].endswith("\r\n") else "\n"
    return Shape(newline, bool(first) and first[0].startswith("\ufeff"), tuple(header))


class TableWriter:
    """A table that is being written beside its place, and put there when it is whole."""

    def __init__(self, file: str, shape: Shape) -> None:
        self.count = 0
        self.file = file
        self._shape = shape
        self._gz = file.endswith(".gz")
        self._header: dict[str, None] = {}  # in order
        self._new: AtomicFile | None = None
        self._stream: Any = None
        # One spelling of CSV everywhere: with this line end the csv module quotes both \r and \n, which its older
        # versions do only for those of the line end; write() puts the wanted one in its place.
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
        from docid.tables.atomicfile import AtomicFile  # noqa: PLC0415 - only where it is needed: see open_table

        self._new = AtomicFile(self.file)
        self._stream = self._new.stream
        if self._gz:
            import gzip  # noqa: PLC0415 - only where it is needed

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
        """Write one row, given as the texts of its columns; a column that is new and not empty widens the table."""
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
        new = cast("AtomicFile", self._new)
        if self._gz:
            self._stream.close()
        new.commit()

    def _widen(self, new: tuple[str, ...]) -> None:
        """Write again what is written, with more columns: a later row has brought them."""
        narrow = cast("AtomicFile", self._new)
        self._stream.close()
        narrow.stream.close()
        try:
            with open_table(narrow.temporary, gz=self._gz) as stream:
                rows = records_of(stream, Faults(narrow.temporary))
                _, header = next(rows)
                self.start((*header, *new))
                for _, cells in rows:
                    self._writer.writerow([*cells, *[""] * len(new)])
        finally:
            narrow.discard()
