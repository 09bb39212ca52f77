"""The tutorial notebook runs, and prints the outputs that it stores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "tutorial.ipynb"


def read_printed(notebook: dict[str, Any]) -> list[str]:
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return ["".join(output["text"]) for output in outputs if output["output_type"] == "stream"]


@pytest.mark.integration("nbclient")
def test_tutorial_prints_its_stored_outputs(tmp_path: Path) -> None:
    copy = tmp_path / "tutorial.ipynb"
    copy.write_bytes(NOTEBOOK.read_bytes())
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", copy.name]
    # The kernel is another process with the same modules. Keep its user files in tmp_path.
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), "MPLCONFIGDIR": str(tmp_path / "mpl")}
    environment["PYTHONUTF8"] = "1"  # Jupyter opens the notebook in the encoding of the locale
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    before, after = (json.loads(path.read_text("utf-8")) for path in (NOTEBOOK, copy))
    assert read_printed(after) == read_printed(before)
    assert "28 documents" in read_printed(after)[-1]
    data = [output.get("data", {}) for cell in after["cells"] for output in cell.get("outputs", [])]
    assert sum("image/png" in each for each in data) == 1
    assert sum("text/html" in each for each in data) >= 6
    assert (tmp_path / "tutorial-data" / "report.html").stat().st_size > 20_000
