# SPDX-License-Identifier: MIT
"""Load balancer for Mixture-of-Experts under expert parallelism."""

from lplb._lplb import __version__

__all__ = ["__version__"]
