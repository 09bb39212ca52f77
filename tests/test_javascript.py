"""The id scheme in JavaScript: Node.js runs the code of `docs/ids.md`."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from docid import InvalidName, reserve_doc_id

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "ids.md"
VECTORS = ROOT / "tests" / "vectors"

Row = list[Any]  # stage, task id, run id, salt, each of any type

# Reads rows from standard input; writes the id of each row, or null if the row is refused.
DRIVER = """
import { readFileSync } from "node:fs";
import { reserveDocId } from "./docid.mjs";

const ids = [];
for (const row of JSON.parse(readFileSync(0, "utf-8"))) {
  try {
    ids.push(await reserveDocId(...row));
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
    ids.push(null);
  }
}
process.stdout.write(JSON.stringify(ids));
"""

BLANKS = "\u0020\u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))
# Characters that JSON encoders treat differently, or that the scheme allows only in some places.
ODD: list[str] = [
    *"\"\\/<>&'`$|,[]{}",
    *"\u00ad\u200b\u200d\u200e\u2060\ufffd\ufffe\uffff\ue000\U0010ffff\U000e0001",
    *BLANKS,
    *"\u0301\u0323\u0338\u1100\u1161\u11a8\u212b\uac00\ufb01",  # NFC composes, reorders or decomposes these
]
REFUSED = [*"\x00\t\n\r\x1b\x7f\x80\x85\x9f", "\ud800", "\udfff"]
RANGES = [(0x20, 0x7F), (0xA1, 0x250), (0x250, 0x2000), (0x2000, 0x2C00), (0x2C00, 0xD800), (0xE000, 0x11000)]
RANGES += [(0x11000, 0x20000), (0x20000, 0x30000)]


def run_javascript(directory: Path, rows: list[Row]) -> list[str | None]:
    """Return the id of each row from the page's module, or None if it refuses the row."""
    [code] = re.findall(r"^```js\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (directory / "docid.mjs").write_text(code, "utf-8")
    (directory / "driver.mjs").write_text(DRIVER, "utf-8")
    done = subprocess.run(
        [str(NODE), "driver.mjs"],
        cwd=directory,
        # ASCII, because a lone surrogate must be an escape.
        input=json.dumps(rows).encode("ascii"),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    ids: list[str | None] = json.loads(done.stdout)
    assert len(ids) == len(rows)
    return ids


def run_python(row: Row) -> str | None:
    try:
        return reserve_doc_id(*row)
    except (InvalidName, TypeError):
        return None


def draw_character(source: random.Random) -> str:
    """Return a random character, often an odd one.

    Code points that this Python does not know are left out: a later Unicode may normalise them.
    """
    if source.random() < 0.3:
        return source.choice(ODD)
    low, high = source.choice(RANGES)
    while unicodedata.category(found := chr(source.randrange(low, high))) == "Cn":
        pass
    return found


def draw_text(source: random.Random) -> str:
    """Return a random text that the scheme accepts."""
    while True:
        drawn = "".join(draw_character(source) for _ in range(source.choice([1, 2, 5, 20, 200])))
        # Normalise again, because removing a blank can leave a text that is not NFC.
        if found := unicodedata.normalize("NFC", unicodedata.normalize("NFC", drawn).strip(BLANKS)).strip(BLANKS):
            return re.sub("[\x00-\x1f\x7f-\x9f]", "_", found)


def draw_stage(source: random.Random) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    rest = "".join(source.choice(letters + "0123456789_-") for _ in range(source.choice([4, 10, 63])))
    return source.choice(["draft", "essay", "evaluation", source.choice(letters) + rest])


def draw_row(source: random.Random) -> Row:
    return [
        draw_stage(source),
        draw_text(source),
        *(draw_text(source) if source.random() < 0.5 else None for _ in range(2)),
    ]


def test_javascript_gives_the_id_of_every_vector(tmp_path: Path) -> None:
    vectors = json.loads((VECTORS / "ids-valid.json").read_text("utf-8"))["vectors"]
    rows = [[vector["stage"], vector["task_id"], vector["run_id"], vector["salt"]] for vector in vectors]
    assert run_javascript(tmp_path, rows) == [vector["doc_id"] for vector in vectors]


def test_javascript_refuses_every_invalid_vector(tmp_path: Path) -> None:
    vectors = json.loads((VECTORS / "ids-invalid.json").read_text("utf-8"))["must_be_refused"]
    rows = [[vector["stage"], vector["task_id"], vector["run_id"], vector["salt"]] for vector in vectors]
    assert run_javascript(tmp_path, rows) == [None] * len(vectors)


def test_javascript_gives_the_ids_of_random_rows(tmp_path: Path) -> None:
    source = random.Random("docid/1")
    rows = [draw_row(source) for _ in range(10_000)]
    # reserve_doc_id raises, and the test fails, if a row is invalid.
    assert run_javascript(tmp_path, rows) == [reserve_doc_id(*row) for row in rows]


def test_javascript_refuses_what_python_refuses(tmp_path: Path) -> None:
    """One text of each row may be invalid: a refused character, a blank at an end, or not NFC."""
    source = random.Random("refused")
    rows = []
    for _ in range(3_000):
        row = draw_row(source)
        drawn = [draw_character(source) for _ in range(source.choice([1, 2, 5]))]
        if source.random() < 0.3:
            drawn.insert(source.randrange(len(drawn) + 1), source.choice(REFUSED))
        row[source.choice([1, 2, 3])] = "".join(drawn)
        rows.append(row)
    expected = [run_python(row) for row in rows]
    assert 500 < expected.count(None) < 2_500
    assert run_javascript(tmp_path, rows) == expected
