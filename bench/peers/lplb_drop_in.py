# SPDX-License-Identifier: MIT
"""lplb.original.Planner: this project behind the interface of deepseek-ai/LPLB."""

from __future__ import annotations

from adapter import serve
from deepseek_lplb import prepare


def find() -> str:
    import lplb

    return lplb.__version__


if __name__ == "__main__":
    serve(find, prepare)
