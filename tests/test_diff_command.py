"""`docid diff`: the differences between two documents, and between the versions of one."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docid import DocsStore, DraftTask, reserve_tasks
from docid.cli import main
from docid.cli.text_diff import (
    NO_NEWLINE,
    Row,
    compare_texts,
    cut_hunks,
    draw_columns,
    draw_unified,
    format_unified,
    join_columns,
)
from tests.store_documents import draft, essay, put_legacy
from tests.test_terminal import WITH_RICH, WITHOUT_RICH, run_on_terminal, strip_codes

PROSE = "The tide comes in twice a day, and the moon has more to do with it than the sun."
CREATED = r"created_at: 20\S+Z"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DocsStore:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCID_STORE", str(tmp_path / "docs"))
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return DocsStore(tmp_path / "docs", durability="none")


@pytest.fixture
def diff(store: DocsStore, capfd: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> str:
        assert main(["diff", *arguments]) == 0
        out, err = capfd.readouterr()
        assert err == ""
        return out

    return run


def put(store: DocsStore, *texts: str, **more: Any) -> None:
    for number, text in enumerate(texts, 1):
        store.write(draft(f"d{number}", f"t-{number}", text, **more))


def format_rows(left: str | None, right: str | None, context: int = 3) -> list[str]:
    """Return the unified diff of two texts without its titles."""
    lines = []
    for header, rows in cut_hunks(compare_texts(left, right), context):
        lines += [header, *(f"{mark}{line}" for mark, line in format_unified(rows))]
    return lines


def draw(left: str, right: str, columns: int) -> list[str]:
    """Return the two columns of two texts, without styles."""
    hunks = cut_hunks(compare_texts(left, right), 3)
    lines = [line for _, rows in hunks for line in draw_columns(rows, columns)]
    return ["".join(text for text, _ in line) for line in lines]


def test_diff_prints_record_then_texts(store: DocsStore, diff: Any) -> None:
    store.write(draft("a1", "t-1", "one\ntwo\nthree", metadata={"model": "x", "usage": {"out": 1}}, prompt_text="p"))
    store.write(draft("b1", "t-2", "one\n2\nthree", metadata={"model": "y", "usage": {"out": 1}}, prompt_text="p"))
    out = re.sub(CREATED, "created_at: …", diff("draft/a", "b1"))
    assert out.splitlines() == [
        "--- draft/a1 record",
        "+++ draft/b1 record",
        "@@ -1,6 +1,6 @@",
        *("-task_id: t-1", "+task_id: t-2", " parent_doc_id: null", " run_id: null"),
        *("-created_at: …", "+created_at: …", "-metadata.model: x", "+metadata.model: y", " metadata.usage.out: 1"),
        *("--- draft/a1 raw: 13 bytes", "+++ draft/b1 raw: 11 bytes", "@@ -1,3 +1,3 @@"),
        *(" one", "-two", "+2", " three", "prompt: equal"),
    ]


def test_part_of_one_document_is_added_or_removed(store: DocsStore, diff: Any) -> None:
    store.write(draft("a1", "t-1", "x"))
    store.write(draft("b1", "t-2", "x", parsed_text="new\nlines", prompt_text=""))
    expected = ["--- draft/a1 parsed: none", "+++ draft/b1 parsed: 9 bytes", "@@ -0,0 +1,2 @@", "+new", "+lines"]
    assert diff("a1", "b1", "--parsed").splitlines() == expected
    back = ["--- draft/b1 parsed: 9 bytes", "+++ draft/a1 parsed: none", "@@ -1,2 +0,0 @@", "-new", "-lines"]
    assert diff("b1", "a1", "--parsed").splitlines() == back
    assert diff("a1", "b1", "--prompt").splitlines() == ["--- draft/a1 prompt: none", "+++ draft/b1 prompt: 0 bytes"]


def test_equal_documents_are_one_line(store: DocsStore, diff: Any) -> None:
    put(store, "same", "same")
    assert diff("d1", "d1") == "draft/d1 and draft/d1 are equal: record, raw\n"
    assert diff("d1", "d2", "--raw") == "draft/d1 and draft/d2 are equal: raw\n"
    assert diff("d1", "d2", "--side-by-side").endswith("\nraw: equal\n")
    assert diff("d1", "d2", "--prompt") == "draft/d1 and draft/d2 have no prompt text\n"


def test_option_selects_one_part(store: DocsStore, diff: Any) -> None:
    put(store, "one", "two")
    assert [line[4:] for line in diff("d1", "d2", "--record").splitlines()[:2]] == [
        "draft/d1 record",
        "draft/d2 record",
    ]
    assert diff("d1", "d2", "--raw").splitlines()[-3:] == ["@@ -1 +1 @@", "-one", "+two"]


def test_documents_of_different_stages_show_lineage(store: DocsStore, diff: Any) -> None:
    store.write(draft("a1"))
    store.write(draft("a2", "t-2"))
    store.write(essay("e1", inputs=("draft/a2",), metadata={"docid": {"nonce": "mine"}}))
    out = diff("a1", "e1", "--record")
    assert re.search(r"(?m)^\+parent_doc_id: a1$", out)
    assert re.search(r"(?m)^\+docid\.inputs\.draft/a2\.raw\.txt: [0-9a-f]{64}$", out)
    assert re.search(r"(?m)^\+docid\.parent\.raw\.txt: [0-9a-f]{64}$", out)
    assert "+metadata.docid.nonce: mine\n" in out
    assert out.count("nonce") == 1


def test_record_shows_salt_and_parse_error(store: DocsStore, diff: Any) -> None:
    rows = [
        *reserve_tasks([DraftTask(task_id="t")], DraftTask),
        *reserve_tasks([DraftTask(task_id="t")], DraftTask, salt="2"),
    ]

    def fail(_: str) -> str:
        raise ValueError("no score")

    store.ensure(rows[0], lambda _: "text")
    store.ensure(rows[1], lambda _: "text", parse=fail)
    out = diff(rows[0].doc_id, rows[1].doc_id, "--record")
    assert "+docid.id_from.salt: 2\n" in out.replace('"', "")
    assert "+docid.parse_error: " in out
    assert "given" not in out


def test_order_of_metadata_is_no_difference(store: DocsStore, diff: Any) -> None:
    put(store, "x", metadata={"a": 1, "b": 2})
    store.write(draft("e1", "t-1", "x", metadata={"b": 2, "a": 1}))
    assert json.loads(diff("d1", "e1", "--json"))["record"].keys() == {"created_at"}


def test_values_of_different_types_differ(store: DocsStore, diff: Any) -> None:
    put(store, "x", metadata={"n": 1, "on": True, "list": [1], "none": None, "lines": "a\nb", "same": "a b"})
    store.write(
        draft("e1", "t-1", "x", metadata={"n": "1", "on": 1, "list": "[1]", "none": "", "lines": "a b", "same": "a b"})
    )
    lines = [line[9:] for line in diff("d1", "e1", "--record").splitlines() if line[1:9] == "metadata"]
    assert lines == [
        *('.lines: "a\\nb"', ".lines: a b", ".list: [1]", '.list: "[1]"', ".n: 1", '.n: "1"'),
        *(".none: null", '.none: ""', ".on: true", ".on: 1", ".same: a b"),
    ]


def test_json_has_names_changed_keys_and_diffs(store: DocsStore, diff: Any) -> None:
    store.write(draft("a1", "t-1", "one\r\n\x1b", metadata={"k": 1, "only": None}))
    store.write(draft("b1", "t-1", "two\r\n\x1b", metadata={"k": 2}, parsed_text="p"))
    facts = json.loads(diff("a1", "b1", "--json", "--context", "0"))
    assert [(facts[side]["stage"], facts[side]["doc_id"]) for side in "ab"] == [("draft", "a1"), ("draft", "b1")]
    assert facts["record"].pop("created_at").keys() == {"a", "b"}
    assert facts["record"] == {"metadata.k": {"a": 1, "b": 2}, "metadata.only": {"a": None}}
    raw, parsed = facts["parts"]["raw"], facts["parts"]["parsed"]
    assert (raw["outcome"], parsed["outcome"]) == ("changed", "added")
    assert raw["diff"] == "--- draft/a1 raw: 6 bytes\n+++ draft/b1 raw: 6 bytes\n@@ -1 +1 @@\n-one\n+two\n"
    assert json.loads(diff("a1", "a1", "--json", "--raw"))["parts"] == {"raw": {"outcome": "equal"}}
    assert "record" not in json.loads(diff("a1", "b1", "--json", "--raw"))


def test_history_compares_each_version_with_the_one_before(store: DocsStore, diff: Any) -> None:
    put(store, "first")
    for text, note in (("second", 1), ("second", 2)):
        store.write(draft("d1", "t-1", text, metadata={"note": note}), if_exists="replace")
    out = re.sub(CREATED, "created_at: …", diff("d1", "--history", "--context", "0"))
    assert out.splitlines() == [
        "draft/d1 (1 version ago) -> draft/d1 (current)",
        *("--- draft/d1 (1 version ago) record", "+++ draft/d1 (current) record", "@@ -4,2 +4,2 @@"),
        *("-created_at: …", "+created_at: …", "-metadata.note: 1", "+metadata.note: 2", "raw: equal", ""),
        "draft/d1 (2 versions ago) -> draft/d1 (1 version ago)",
        *("--- draft/d1 (2 versions ago) record", "+++ draft/d1 (1 version ago) record", "@@ -4 +4,2 @@"),
        *("-created_at: …", "+created_at: …", "+metadata.note: 1"),
        *("--- draft/d1 (2 versions ago) raw: 5 bytes", "+++ draft/d1 (1 version ago) raw: 6 bytes"),
        *("@@ -1 +1 @@", "-first", "+second"),
    ]
    lines = [json.loads(line) for line in diff("d1", "--history", "--json").splitlines()]
    assert [(each["a"]["versions_ago"], each["b"]["versions_ago"]) for each in lines] == [(1, 0), (2, 1)]


def test_history_without_earlier_versions_is_one_line_on_stderr(
    store: DocsStore, capfd: pytest.CaptureFixture[str]
) -> None:
    put(store, "first")
    assert main(["diff", "d1", "--history"]) == 0
    assert capfd.readouterr() == ("", "docid: draft/d1 (task_id='t-1') has no earlier versions\n")
    assert main(["diff", "d1", "--history", "--json"]) == 0
    assert capfd.readouterr() == ("", "")


def test_legacy_documents_are_compared(store: DocsStore, diff: Any) -> None:
    put(store, "new")
    put_legacy(store, "draft", "old", {"task_id": "t-1", "docid": 3, "usage": {}}, raw="old", prompt="p")
    out = diff("old", "d1")
    assert {"-created_at: null", "-metadata.docid: 3", "-metadata.usage: {}", "-old", "+new", "-p"} <= set(
        out.splitlines()
    )
    assert json.loads(diff("old", "d1", "--json"))["a"]["created_at"] is None


@pytest.mark.parametrize(
    "arguments", [["d1"], ["d1", "d2", "--history"], ["d1", "zz"], ["d1", "d2", "--context", "-1"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str], store: DocsStore, capfd: pytest.CaptureFixture[str]) -> None:
    put(store, "1", "2")
    try:
        code: object = main(["diff", *arguments])
    except SystemExit as error:
        code = error.code
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert re.search("a second document B or --history|no such document|at least 0", err)


def test_damaged_document_exits_with_2(store: DocsStore, capfd: pytest.CaptureFixture[str]) -> None:
    put(store, "1", "2")
    (store.path("draft", "d2") / "raw.txt").unlink()
    assert main(["diff", "d1", "d2"]) == 2
    assert "raw.txt: listed in the record, but missing" in capfd.readouterr().err


def test_control_characters_are_escaped(store: DocsStore, diff: Any) -> None:
    hostile = "\x1b[2J\x9b \u202e\tx\ry\r"
    put(store, f"{hostile}\n1", f"{hostile}\n2", metadata={"\x07": "\x1b\u2028."})
    for options in ([], ["--side-by-side"]):
        out = diff("d1", "d2", *options)
        assert re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028]", out) == []
        assert "\\x1b[2J\\x9b \\u202e" in out
        assert 'metadata."\\u0007": \\x1b\\u2028.' in out


@pytest.mark.parametrize(
    ("left", "right", "lines"),
    [
        ("a", "a\n", ["@@ -1 +1 @@", f"-a\n{NO_NEWLINE}", "+a"]),
        ("a\n", "a", ["@@ -1 +1 @@", "-a", f"+a\n{NO_NEWLINE}"]),
        ("a", "b\n", ["@@ -1 +1 @@", "-a", "+b"]),
        ("", "\n", ["@@ -0,0 +1 @@", "+"]),
        ("a\n", "a\n\n", ["@@ -1 +1,2 @@", " a", "+"]),
        ("a\r\nb\r\n", "a\nb\n", ["@@ -1,2 +1,2 @@", "-a\r", "+a", "-b\r", "+b"]),
        ("a\r\nb\r\n", "a\r\nc\r\n", ["@@ -1,2 +1,2 @@", " a", "-b", "+c"]),
        ("a\u2028b\x0c", "a\u2028c\x0c", ["@@ -1 +1 @@", "-a\u2028b\x0c", "+a\u2028c\x0c"]),
        (None, "a", ["@@ -0,0 +1 @@", "+a"]),
    ],
)
def test_newlines_are_shown_only_if_nothing_else_differs(left: str | None, right: str, lines: list[str]) -> None:
    assert format_rows(left, right) == lines


def test_context_cuts_and_joins_hunks() -> None:
    left = "\n".join(map(str, range(20)))
    right = left.replace("\n5\n", "\nfive\n").replace("\n9\n", "\nnine\n")
    assert [line for line in format_rows(left, right, 1) if line[0] == "@"] == ["@@ -5,3 +5,3 @@", "@@ -9,3 +9,3 @@"]
    assert [line for line in format_rows(left, right, 2) if line[0] == "@"] == ["@@ -4,9 +4,9 @@"]
    assert format_rows(left, right, 0) == ["@@ -6 +6 @@", "-5", "+five", "@@ -10 +10 @@", "-9", "+nine"]


@given(st.text("ab \n\r", max_size=60), st.text("ab \n\r", max_size=60), st.integers(0, 3))
def test_unified_diff_turns_left_into_right(left: str, right: str, context: int) -> None:
    rows = compare_texts(left, right)
    for side, text in enumerate((left, right)):
        lines = [row[side] for row in rows if row[side] is not None]
        whole = "\n".join(str(line).removesuffix(f"\n{NO_NEWLINE}") for line in lines)
        assert whole.replace("\r\n", "\n").rstrip("\r") == text.replace("\r\n", "\n").removesuffix("\n").rstrip("\r")
    assert all(row.kind != "=" or row.left == row.right for row in rows)
    for header, part in cut_hunks(rows, context):
        marks = [mark for mark, _ in format_unified(part)]
        counts = [int(count or 1) for count in re.findall(r"[-+]\d+(?:,(\d+))?", header)]
        assert counts == [len(marks) - marks.count("+"), len(marks) - marks.count("-")]


def test_changed_paragraph_is_next_to_its_new_form() -> None:
    paragraphs = [PROSE, "A harbour master keeps a table of hours.", "At night the sea lights up."]
    changed = [
        paragraphs[0].replace("moon", "Moon"),
        paragraphs[1].replace("hours", "days"),
        paragraphs[2] + " At times.",
    ]
    rows = compare_texts("\n\n".join(paragraphs), "\n\n".join(["A new start", *changed]))
    assert [(row.left, row.right) for row in rows if row.kind == "~"] == list(zip(paragraphs, changed, strict=True))
    assert [row.right for row in rows if row.left is None] == ["A new start", ""]
    rows = compare_texts("\n".join([*paragraphs, "end"]), "\n".join(["new", "", changed[0], "other", paragraphs[1]]))
    assert (paragraphs[1], paragraphs[1], "=") in rows


@pytest.mark.parametrize("columns", [1, 40, 79, 130, 1000])
def test_columns_fit_the_width_and_keep_all_words(columns: int) -> None:
    left = f"{PROSE} {'x' * 150}\n漢字{'かな' * 40}\n\tindented  \n{' ' * 99}far\n"
    right = left.replace("moon", "Moon").replace("far", "fär") + "new"
    lines = draw(left, right, columns)
    width = max(8, (columns - 3) // 2)
    wide = re.compile("[\u3040-\u9fff]")
    assert all(len(line) + len(wide.findall(line)) <= 2 * width + 3 for line in lines)
    assert {line[width : width + 3].strip() for line in lines if not wide.search(line)} <= {"", "|", "<", ">"}
    pair = wide.sub("", "".join(lines)).replace(" ", "").replace("|", "").replace(">", "")
    assert len(pair) == sum(len(re.sub(r"\s", "", wide.sub("", text))) for text in (left, right))


def test_marks_of_columns_are_next_to_changed_words() -> None:
    lines = draw(f"{PROSE}\nsame\nold", f"{PROSE.replace('moon', 'Moon')}\nsame\n", 60)
    assert [line[28:31].strip() for line in lines] == ["", "|", "", "", "<"]
    assert lines[-1] == f"old{' ' * 26}<"
    assert draw("a  b c", "a b c", 60) == [f"a  b c{' ' * 23}| a b c"]
    assert draw("a", "a\n", 80) == [
        f"a{' ' * 37} | a",
        f"{NO_NEWLINE} |".replace(" |", " " * (38 - len(NO_NEWLINE)) + " |"),
    ]
    assert list(join_columns([], " ", [], 80)) == [[]]


def list_changed(left: str, right: str) -> list[str]:
    [hunk] = cut_hunks(compare_texts(left, right), 0)
    return [text for line in draw_unified(hunk.rows, 10_000_000) for text, style in line if "reverse" in style]


def test_changed_words_have_a_style() -> None:
    assert list_changed(PROSE, PROSE.replace("moon", "Moon")) == ["moon", "Moon"]
    assert list_changed("one", "two") == []


def test_style_of_a_very_long_line_covers_its_changed_middle() -> None:
    left, right = ("words " * 3000 + middle + " and more" * 3000 for middle in ("one or two", "one and two"))
    assert list_changed(left, right) == ["or", "and"]
    assert list_changed("a " * 4000, "a " * 4001) == ["a "]


@pytest.mark.parametrize("options", [[], ["--side-by-side"]])
def test_terminal_and_pipe_show_the_same_words(options: list[str], store: DocsStore, diff: Any) -> None:
    put(store, f"{PROSE}\n\nold", f"{PROSE.replace('moon', 'Moon')}\n\n[red]new[/red]")
    arguments = ["diff", "d1", "d2", *options]
    outputs = [
        run_on_terminal(Path(), WITH_RICH, *arguments, columns=60),
        run_on_terminal(Path(), WITH_RICH, *arguments, columns=60, is_coloured=False),
        run_on_terminal(Path(), WITHOUT_RICH, *arguments, columns=60),
    ]
    assert "\x1b[1;7;31mmoon" in outputs[0]
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", outputs[1])
    assert "\x1b[1;7mmoon" in outputs[1]
    assert "\x1b" not in outputs[2]
    piped = diff(*arguments[1:])
    assert "\x1b" not in piped
    for output in outputs:
        assert set(re.findall(r"\w{3,}", strip_codes(output))) == set(re.findall(r"\w{3,}", piped))
        assert "[red]new[/red]" in output


def test_width_of_columns_is_that_of_the_environment(
    store: DocsStore, diff: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", "b")
    assert diff("d1", "d2", "--raw", "--side-by-side").splitlines()[-1] == f"a{' ' * 62} | b"
    monkeypatch.setenv("COLUMNS", "40")
    assert diff("d1", "d2", "--raw", "--side-by-side").splitlines()[-1] == f"a{' ' * 17} | b"


def test_example_in_the_docs_is_real(store: DocsStore, diff: Any) -> None:
    page = (Path(__file__).parent.parent / "docs" / "store.md").read_text("utf-8")
    block = page.partition("    $ docid diff ")[2].partition("\n\n")[0]
    command, *lines = textwrap.dedent(f"    {block}").splitlines()
    for middle in ("moon lifts", "moon and the sun lift"):
        text = f"The sea comes in twice a day.\nThe {middle} it, and the harbour keeps the hours."
        document = essay("uu5r0dnnfd3qe2e0", "t-1", None, parsed_text=text)
        store.write(document, if_exists="replace", require_parent=False)
    assert diff(*command.split()).splitlines() == lines


def test_lines_on_a_terminal_have_styles(store: DocsStore, diff: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, PROSE, PROSE.replace("moon", "Moon"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "30")
    piped = diff("d1", "d2", "--raw")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    coloured = diff("d1", "d2", "--raw")
    assert "\x1b[1;7;32mMoon" in coloured
    assert max(map(len, strip_codes(coloured).splitlines())) == 30
    assert strip_codes(coloured).split() == piped.split()


def test_names_of_metadata_are_told_apart(store: DocsStore, diff: Any) -> None:
    store.write(draft("d1", metadata={"a.b": 1, "x\n+++ fake\n-line": 1}))
    store.write(draft("d2", metadata={"a": {"b": 1}, "x\n+++ fake\n-line": 2}))
    record = json.loads(diff("d1", "d2", "--json", "--record"))["record"]
    assert {key: sides for key, sides in record.items() if key.startswith("metadata")} == {
        "metadata.a.b": {"b": 1},
        'metadata."a.b"': {"a": 1},
        'metadata."x\\n+++ fake\\n-line"': {"a": 1, "b": 2},
    }
    lines = diff("d1", "d2", "--record").splitlines()
    assert '-metadata."x\\n+++ fake\\n-line": 1' in lines
    assert not [line for line in lines if line.startswith("+++ fake")]


def test_equal_ends_of_long_texts_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """difflib takes a minute for 100,000 lines of few kinds."""
    compared: list[int] = []

    def count(_: object, left: list[str], right: list[str]) -> SequenceMatcher[str]:
        compared.append(len(left) + len(right))
        return SequenceMatcher(None, left, right)

    monkeypatch.setattr("docid.cli.text_diff.SequenceMatcher", count)
    lines = [f"line {number % 150}\n" for number in range(10_000)]
    rows = compare_texts("".join(lines), "".join([*lines[:5_000], "new\n", *lines[5_000:]]))
    assert [row for row in rows if row.kind != "="] == [Row(None, "new", "|")]
    assert len(rows) == 10_001
    assert sum(compared) < 10


def test_long_line_in_two_columns_is_drawn_in_one_pass() -> None:
    """The number of calls grows with the length, not with its square."""

    class Style(str):
        __slots__ = ()
        calls = 0

        def startswith(self, *arguments: Any) -> bool:
            Style.calls += 1
            return super().startswith(*arguments)

    text = "the sea moon harbour " * 2_000
    lines = list(join_columns([(text, Style("red"))], "|", [(text, Style("green"))], 80))
    assert len(lines) > 1_000
    assert Style.calls <= 4 * len(lines)


def test_unknown_width_of_a_terminal_is_that_of_the_terminal(store: DocsStore) -> None:
    put(store, "a", "b")
    out = run_on_terminal(Path(), WITH_RICH, "diff", "d1", "d2", "--raw", columns=0)
    assert "+b" in strip_codes(out)
