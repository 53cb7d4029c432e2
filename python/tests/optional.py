# SPDX-License-Identifier: MIT
"""Packages that tests can do without: if one is missing, the files that import it are skipped."""

from __future__ import annotations

from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")
