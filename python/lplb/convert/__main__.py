# SPDX-License-Identifier: MIT
"""`python -m lplb.convert`."""

import sys

from .cli import main

sys.exit(main())
