# SPDX-License-Identifier: MIT
"""`python -m lplb.convert`."""

import sys

from lplb.convert.cli import main

sys.exit(main())
