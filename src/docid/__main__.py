"""`python -m docid`: the command line."""

from __future__ import annotations

import sys

from docid.cli import main

sys.exit(main())
