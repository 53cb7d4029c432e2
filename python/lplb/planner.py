# SPDX-License-Identifier: MIT
"""What deepseek-ai/LPLB has under this name, for code that imports it: see docs/drop-in.md."""

from lplb.original import Planner

__all__ = ["Planner"]
