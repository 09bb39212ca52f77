"""Run the command line: `python -m docid`."""

from __future__ import annotations

import sys

from docid.cli import main

sys.exit(main())
