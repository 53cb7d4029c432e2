# SPDX-License-Identifier: MIT
"""How far long work is."""

from __future__ import annotations

import sys
from collections.abc import Callable


def line_of(what: str) -> Callable[[int, int], None]:
    """Writes "3 of 8 `what`" on standard error, over the line before."""

    def show(done: int, all_parts: int) -> None:
        text = f"\r{done} of {all_parts} {what}" if all_parts >= 0 else f"\r{done} {what}"
        print(text, end="\n" if done == all_parts else "", file=sys.stderr, flush=True)

    return show
