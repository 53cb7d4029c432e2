# SPDX-License-Identifier: MIT
"""What MkDocs calls while it builds the site."""

import pathlib

# The first pages of folders whose other pages come into the navigation by themselves.
FIRST_PAGES = ("cpp/index.md", "design/index.md", "notes/README.md")


def on_config(config):
    """Puts the pages of the C++ reference, the decisions and the notes below their first pages."""

    def complete(entry):
        if isinstance(entry, dict):
            return {title: complete(below) for title, below in entry.items()}
        if isinstance(entry, list):
            return [page for below in entry for page in expanded(complete(below))]
        return entry

    def expanded(entry):
        if entry not in FIRST_PAGES:
            return [entry]
        first = pathlib.Path(config.docs_dir, entry)
        others = sorted(path for path in first.parent.glob("*.md") if path != first)
        return [entry, *(f"{path.parent.name}/{path.name}" for path in others)]

    config.nav = complete(config.nav)
    return config
