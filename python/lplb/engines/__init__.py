# SPDX-License-Identifier: MIT
"""LPLB in engines: the hooks of docs/engines.md, as modules.

Nothing here is imported by `import lplb`, and no engine is needed for it.
"""
