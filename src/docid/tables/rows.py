"""Task rows: their classes, the columns of a class, and values as cell text."""

from __future__ import annotations

import copyreg
import inspect
import re
import types
import typing
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, cast

import attrs
from attrs import field, frozen

from docid._text import name_task, quote
from docid.core.ids import DOC_ID_EXPECTED, check_stage, check_text, is_doc_id, is_missing
from docid.core.lineage_rules import check_inputs
from docid.core.stages import DEFAULT_STAGES, Stages, check_stages
from docid.errors import InvalidName
from docid.tables.headers import LOOKS_ALIKE, find_misspelling, show_name
from docid.tables.mappings import parse_mapping
from docid.tables.values import plain_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self


def _convert_inputs(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@frozen(kw_only=True, repr=False)
class TaskRow:
    """One row of a task table: a document that the pipeline will make.

    Declare a subclass for each stage. Set `stage`, and `parent_stage` if the stage has a parent. Add the stage's own
    columns as fields of type `str`, `int`, `float` or `bool`; each may be `| None`. A field without a default is a
    required column. To give a field another column name, use `attrs.field(metadata={"column": "its name"})`.

    Attributes:
        task_id: the task (column `<stage>_task_id`).
        doc_id: the id of its document; empty until reserved.
        parent_doc_id: the parent of its document; None until reserved, or if the stage has no parent.
        doc_run_id, doc_salt: the run id and salt from which docid derived `doc_id`, if any.
        input_doc_ids: other documents that its document is made from, in order, each as `STAGE/ID`; at most 1,000. In
            a table, blanks separate them.
        extra: all other columns, as text.
        columns: the columns of the row's file, in order; ignored in comparisons.

    Example:
        >>> @attrs.frozen(kw_only=True)
        ... class ChapterTask(TaskRow):
        ...     stage = "chapter"
        ...     parent_stage = "outline"
        ...     words: int | None = None
        >>> ChapterTask(task_id="moby__1", words=900).words
        900
    """

    stage: ClassVar[str]
    parent_stage: ClassVar[str | None] = None

    task_id: str
    doc_id: str = ""
    parent_doc_id: str | None = None
    doc_run_id: str | None = None
    doc_salt: str | None = None
    input_doc_ids: tuple[str, ...] = field(default=(), converter=_convert_inputs)
    extra: dict[str, str] = field(factory=dict, hash=False)
    columns: tuple[str, ...] = field(default=(), eq=False, repr=False)
    # Original cell texts that differ from the plain text of their value ("007", "nan"), kept to write them unchanged.
    _cells: dict[str, str] = field(factory=dict, eq=False, repr=False, alias="_cells")

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):  # attrs would generate one that shows every field
            type.__setattr__(cls, "__repr__", cls.__repr__)

    def __new__(cls, *_: object, **__: object) -> Self:
        """Refuse a class without the decorator, before the `__init__` of its base complains about the fields."""
        schema_of(cls)
        return super().__new__(cls)

    def __attrs_post_init__(self) -> None:
        schema = schema_of(type(self))
        for name, kinds in schema.kinds:
            value = getattr(self, name)
            if type(value) not in kinds and not _is_instance(value, kinds):
                task = name_task(self.task_id if isinstance(self.task_id, str) else None)
                raise TypeError(f"{type(self).__name__}.{name}{task}: {_describe_wrong_type(value, kinds)}")
        if self.input_doc_ids:
            check_inputs(self.input_doc_ids, f"{self.stage}/{self.doc_id}", "input_doc_ids")
        if not schema.names.isdisjoint(self.extra):
            twice = ", ".join(sorted(schema.names & self.extra.keys()))
            raise InvalidName("extra", twice, "also a field of the row", "only other columns; set the field instead")
        extra: dict[Any, Any] = self.extra
        for key, text in extra.items():
            if not isinstance(key, str) or not isinstance(text, str):
                wrong = text if isinstance(key, str) else key
                raise TypeError(f"extra[{key!r}]: expected a str, got {type(wrong).__name__}")

    def __repr__(self) -> str:
        """Show the fields that differ from their defaults."""
        fields = [field for field in attrs.fields(type(self)) if field.repr]
        values = {str(field.alias): getattr(self, field.name) for field in fields}
        unset: dict[str, Any] = {str(field.alias): field.default for field in fields} | {"extra": {}}
        shown = ", ".join(f"{name}={value!r}" for name, value in values.items() if value != unset[name])
        return f"{type(self).__name__}({shown})"

    @classmethod
    def of(cls, stage: str, parent_stage: str | None = None) -> type[TaskRow]:
        """Return a row type for a stage that has no class of its own: all columns except docid's go to `extra`.

        Raises:
            InvalidName: not a stage name.
        """
        parent = None if parent_stage is None else check_stage(parent_stage, "parent_stage")
        return _make_plain_type(check_stage(stage), parent)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> Self:
        """Return the row of a mapping whose keys are columns: a JSON object, or a row of a database.

        Numbers, booleans and dates become text, None an empty cell. An id must be text.

        Raises:
            TaskTableError: a column is missing or misspelled, or a value is invalid.

        Example:
            >>> DraftTask.from_mapping({"draft_task_id": "t-1", "combo_id": "tides", "words": 300})
            DraftTask(task_id='t-1', extra={'words': '300'}, combo_id='tides')
        """
        return parse_mapping(mapping, cls, schema_of(cls))

    def cell(self, column: str) -> str:
        """Return the text of one column; empty if the row does not have it."""
        return format_cells(self).get(column, "")


@frozen(kw_only=True)
class DraftTask(TaskRow):
    """A row of `draft_generation_tasks.csv`. `source_doc_id` names a stored draft whose prompt to send again.

    Example:
        >>> DraftTask(task_id="tides__plain__large-1", combo_id="tides", generation_model="large-1").stage
        'draft'
    """

    stage = "draft"

    combo_id: str = ""
    draft_template: str = ""
    generation_model: str = ""
    generation_model_name: str = ""
    source_doc_id: str | None = None


@frozen(kw_only=True)
class EssayTask(TaskRow):
    """A row of `essay_generation_tasks.csv`.

    Example:
        >>> row = EssayTask(task_id="tides__plain", doc_id="e1", parent_doc_id="d1", extra={"note": "by hand"})
        >>> row.parent_doc_id, row.cell("note"), row.cell("essay_task_id")
        ('d1', 'by hand', 'tides__plain')
    """

    stage = "essay"
    parent_stage = "draft"

    draft_task_id: str = ""
    combo_id: str = ""
    draft_template: str = ""
    essay_template: str = ""
    generation_model: str = ""
    generation_model_name: str = ""


@frozen(kw_only=True)
class EvaluationTask(TaskRow):
    """A row of `evaluation_tasks.csv`.

    Example:
        >>> EvaluationTask(task_id="e1__clarity__large-1", parent_doc_id="e1", parser="in_last_line").parent_stage
        'essay'
    """

    stage = "evaluation"
    parent_stage = "essay"

    essay_task_id: str = ""
    combo_id: str = ""
    draft_template: str = ""
    essay_template: str = ""
    generation_model: str = ""
    generation_model_name: str = ""
    evaluation_template: str = ""
    evaluation_model: str = ""
    evaluation_model_name: str = ""
    parser: str = ""


def row_type_of(stage: str, stages: Stages = DEFAULT_STAGES) -> type[TaskRow]:
    """Return the row type of a stage: one of the three in this module, or a plain one."""
    parent = check_stages(stages).parent_of(stage)
    for known in (DraftTask, EssayTask, EvaluationTask):
        if (known.stage, known.parent_stage) == (stage, parent):
            return known
    return TaskRow.of(stage, parent)


@lru_cache(maxsize=256)
def _make_plain_type(stage: str, parent_stage: str | None) -> type[TaskRow]:
    name = "".join(part.capitalize() for part in re.split("[-_]", stage)) + "Task"
    row_type = cast("type[TaskRow]", type(name, (TaskRow,), {"stage": stage, "parent_stage": parent_stage}))
    # pickle cannot import this class by name, so unpickling a row makes it again. Subclasses pickle as usual.
    copyreg.pickle(row_type, _reduce_plain)
    return row_type


def _reduce_plain(row: TaskRow) -> tuple[Any, ...]:
    values = {str(field.alias): getattr(row, field.name) for field in attrs.fields(TaskRow)}
    return _rebuild_plain, (row.stage, row.parent_stage, values)


def _rebuild_plain(stage: str, parent_stage: str | None, values: dict[str, Any]) -> TaskRow:
    return _make_plain_type(stage, parent_stage)(**values)


def with_source(row: TaskRow, doc_id: str) -> TaskRow:
    """Return the row with a stored document as the source of its prompt."""
    changes: dict[str, Any] = {"source_doc_id": doc_id}
    if "source_doc_id" not in schema_of(type(row)).names:
        changes = {"extra": row.extra | changes}
    return attrs.evolve(row, **changes)


class Column(NamedTuple):
    """The column of one field of a row type."""

    attribute: str
    name: str
    parse: Callable[[str], Any]
    expected: str
    default: Any
    required: bool
    always: bool  # whether every new table has it
    argument: str  # the field's name as an argument of the class
    kind: type  # the type of its values, without None


class Schema(NamedTuple):
    """The columns of a row type in the order of a new table, their names, and the types of each field's values.

    `extra` goes before the last four columns.
    """

    columns: tuple[Column, ...]
    names: frozenset[str]
    kinds: tuple[tuple[str, tuple[type, ...]], ...]


def _build_schema(row_type: type[Any]) -> Schema:
    """Return the schema of a row type; raise TypeError for a missing stage, or a field that no cell can hold."""
    if not isinstance(row_type, type) or not issubclass(row_type, TaskRow):
        expected = "a subclass of TaskRow, such as EssayTask or row_type_of('essay')"
        raise TypeError(f"row_type: expected {expected}, got {row_type!r}")
    class_name = row_type.__name__
    try:
        hints = typing.get_type_hints(row_type)
    except NameError as error:
        raise TypeError(f"{class_name}: {error}; define the types of its fields in its module") from error
    _check_class(row_type, hints)
    stage = row_type.stage
    fields, base = attrs.fields_dict(row_type), attrs.fields_dict(TaskRow)
    columns = [_make_column(fields["task_id"], f"{stage}_task_id", _parse_task_id, "a task id")]
    if row_type.parent_stage is not None:
        columns.append(_make_column(fields["parent_doc_id"], "parent_doc_id", _parse_id, "a doc id"))
    columns += [_make_own_column(each, hints[name]) for name, each in fields.items() if name not in base]
    columns.append(_make_column(fields["input_doc_ids"], "input_doc_ids", _parse_inputs, "names of documents"))
    columns += [
        _make_column(fields[name], name, lambda text: None if is_missing(text) else text, "text")
        for name in ("doc_run_id", "doc_salt")
    ]
    columns.append(_make_column(fields["doc_id"], "doc_id", lambda text: _parse_id(text) or "", "a doc id"))
    names = [column.name for column in columns]
    if len(set(names)) != len(names):
        raise TypeError(f"{class_name}: two fields share a column; the columns are {', '.join(names)}")
    kinds = {name: _list_kinds(hints[name]) for name in fields}
    for name, each in fields.items():
        if (each.default is None or type(each.default) in _PARSERS) and not _is_instance(each.default, kinds[name]):
            hint = "; add | None to its type" if each.default is None else ""
            raise TypeError(f"{class_name}.{name}, default: {_describe_wrong_type(each.default, kinds[name])}{hint}")
    return Schema(tuple(columns), frozenset(names), tuple(kinds.items()))


def _check_class(row_type: type[Any], hints: dict[str, Any]) -> None:
    """Raise an error for a class without a stage, or with a field that attrs does not know."""
    class_name, fields, decorate = row_type.__name__, attrs.fields_dict(row_type), "@attrs.frozen(kw_only=True)"
    for each in row_type.__mro__[: row_type.__mro__.index(TaskRow)]:
        if "__dataclass_fields__" in vars(each):
            raise TypeError(f"{class_name}: a dataclass; decorate the class with {decorate} instead")
        is_undecorated = issubclass(each, TaskRow) and "__attrs_attrs__" not in vars(each)
        for name in inspect.get_annotations(each):
            if hints[name] is ClassVar or typing.get_origin(hints[name]) is ClassVar:
                continue
            if name in {"stage", "parent_stage"}:
                raise TypeError(f"{class_name}.{name}: declared as a field; write {name} = '…' without a type")
            if is_undecorated or name not in fields:
                raise TypeError(f"{class_name}.{name}: not a field; decorate the class with {decorate}")
    if getattr(row_type, "stage", None) is None:
        raise TypeError(f"{class_name}: no stage; add stage = '…' to the class")
    check_stage(row_type.stage, f"{class_name}.stage")
    if row_type.parent_stage is not None:
        check_stage(row_type.parent_stage, f"{class_name}.parent_stage")


def _list_kinds(hint: Any) -> tuple[type, ...]:
    """Return the types of the values of a field, None last; a float may be a whole number."""
    kinds = [typing.get_origin(each) or each for each in _split_union(hint)]
    numbers = [int] if float in kinds else []
    return tuple(sorted([*kinds, *numbers], key=lambda kind: kind is types.NoneType))


def _split_union(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in {types.UnionType, typing.Union} else (hint,)


def _is_instance(value: object, kinds: tuple[type, ...]) -> bool:
    """Return whether a value has one of these types; a bool is not a number here."""
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _describe_wrong_type(value: object, kinds: tuple[type, ...]) -> str:
    names = ("None" if each is types.NoneType else each.__name__ for each in kinds)
    expected = " or ".join(name if name == "None" else f"{'an' if name == 'int' else 'a'} {name}" for name in names)
    got = "" if value is None else f"the {type(value).__name__} "
    return f"expected {expected}, got {got}{quote(value)}"


# Cast, because type checkers confuse the hash of a class with that of its instances.
schema_of = cast("Callable[[type[Any]], Schema]", lru_cache(maxsize=256)(_build_schema))

_OPTIONAL = ("input_doc_ids", "doc_run_id", "doc_salt")  # columns that a new table has only if a row needs them


def _make_column(
    declared: attrs.Attribute[Any], name: str, parse: Callable[[str], Any], expected: str, kind: type = str
) -> Column:
    default, always = declared.default, declared.name not in _OPTIONAL
    required = default is attrs.NOTHING
    return Column(declared.name, name, parse, expected, default, required, always, str(declared.alias), kind)


def _make_own_column(declared: attrs.Attribute[Any], hint: Any) -> Column:
    kinds = set(_split_union(hint))
    kind, *others = kinds - {type(None)} or {None}
    if others or kind not in _PARSERS:
        raise TypeError(f"field {declared.name}: expected the type str, int, float or bool (or | None), got {hint}")
    parse, expected = _PARSERS[kind]
    name = declared.metadata.get("column", declared.name)
    if declared.name == "source_doc_id":
        return _make_column(declared, name, _parse_id, expected)
    if type(None) in kinds:
        return _make_column(declared, name, lambda text: parse(text) if text else None, f"{expected}, or nothing", kind)
    return _make_column(declared, name, parse, expected, kind)


def _parse_task_id(text: str) -> str:
    if is_missing(text):
        raise ValueError("empty; expected a task id")
    try:
        return check_text(text, "task_id")
    except InvalidName as error:
        raise ValueError(f"{error.problem}; expected {error.expected}") from None


def _parse_id(text: str) -> str | None:
    if is_missing(text):
        return None
    if not is_doc_id(text):
        raise ValueError(f"not a doc id; expected {DOC_ID_EXPECTED}")
    return text


def _parse_inputs(text: str) -> tuple[str, ...]:
    if is_missing(text):
        return ()
    try:
        return check_inputs(text.split())
    except InvalidName as error:
        name = "" if error.value == text else f"{quote(error.value)}: "
        raise ValueError(f"{name}{error.problem}; expected {error.expected}") from None


def _parse_value(pattern: str, convert: Callable[[str], Any], text: str) -> Any:
    """Convert text of this pattern to a value; int() and float() alone also accept blanks, underscores and NaN."""
    if not re.fullmatch(pattern, text):
        raise ValueError
    return convert(text)


_NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"
_PARSERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    str: (str, "text"),
    int: (partial(_parse_value, r"[+-]?[0-9]{1,1000}", int), "a whole number"),
    float: (partial(_parse_value, _NUMBER, float), "a number"),
    bool: (partial(_parse_value, "(?i:true|false)", lambda text: text.lower() == "true"), "true or false"),
}


def _format_cell(row: TaskRow, column: Column) -> str:
    value = getattr(row, column.attribute)
    kept = row._cells.get(column.name)  # noqa: SLF001 - of this module
    if kept is not None and column.parse(kept) == value:
        return kept
    return value if type(value) is str else plain_text(value)


def find_fault(row: TaskRow) -> tuple[str, object, str] | None:
    """Return column, value and problem of the first field that reading would not return unchanged, or None."""
    schema = schema_of(type(row))
    extra: dict[str, Any] = row.extra  # mutable, so the caller may have changed it
    for name, text in extra.items():
        if name in schema.names:
            return name, text, "also a field of the row; expected it only in the field"
        if not isinstance(text, str):
            return name, text, "expected text"
    if found := find_lookalike(type(row), tuple(extra)):
        return found[0], "", found[1]
    for column in schema.columns:
        value = getattr(row, column.attribute)
        if column.parse is str and type(value) is str:
            continue  # reading returns any text unchanged
        try:
            if column.parse(_format_cell(row, column)) != value:
                return column.name, value, f"expected {column.expected}"
        except ValueError as error:
            return column.name, value, str(error) or f"expected {column.expected}"
    return None


def find_lookalike(row_type: type[TaskRow], names: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the first column of a row type that an extra column looks like, and the problem; else None.

    Of a table with both, `read_tasks` cannot know which one holds the ids.
    """
    return _find_lookalike(cast("Any", row_type), names)


@lru_cache(maxsize=256)
def _find_lookalike(row_type: Any, names: tuple[str, ...]) -> tuple[str, str] | None:
    known = dict.fromkeys((*(column.name for column in schema_of(row_type).columns), "source_doc_id"))
    for name in known:
        if other := find_misspelling(name, names, known):
            return name, f"{LOOKS_ALIKE}; is {show_name(other, name)} misspelled?"
    return None


def format_cells(row: TaskRow) -> dict[str, str]:
    """Return the text of every column of a row: its table's columns in order, then new ones.

    A row without a table has all columns of its type, except unset inputs, an unset run id or an unset salt.
    """
    texts = dict.fromkeys(row.columns, "")
    columns = schema_of(type(row)).columns
    for group, others in ((columns[:-4], row.extra), (columns[-4:], {})):
        for column in group:
            is_new = column.always and not row.columns
            if is_new or column.name in texts or getattr(row, column.attribute) != column.default:
                texts[column.name] = _format_cell(row, column)
        texts.update(others)
    return texts
