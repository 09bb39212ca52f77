"""`nox -s types` checks the code of README.md."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent


def test_type_checked_code_equals_the_readme() -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (TESTS.parent / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    checked = (TESTS / "typing" / "readme.py").read_text("utf-8")
    assert len(blocks) > 1
    assert checked.partition('not run."""\n\n')[2] == "\n".join(blocks)
