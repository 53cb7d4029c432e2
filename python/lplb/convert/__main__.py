# SPDX-License-Identifier: MIT
"""Runs the command line, `python -m lplb.convert`."""

import sys

from lplb.convert.cli import main

sys.exit(main())
