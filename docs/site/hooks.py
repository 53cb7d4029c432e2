# SPDX-License-Identifier: MIT
"""What MkDocs calls while it builds the site."""

import pathlib


def on_config(config):
    """Puts the pages of the C++ reference and of the decisions below their lists."""

    def complete(entry):
        if isinstance(entry, dict):
            return {title: complete(below) for title, below in entry.items()}
        if isinstance(entry, list):
            return [page for below in entry for page in expanded(complete(below))]
        return entry

    def expanded(entry):
        if entry not in ("cpp/index.md", "design/index.md"):
            return [entry]
        folder = pathlib.Path(config.docs_dir, entry).parent
        return [
            entry,
            *(
                f"{folder.name}/{path.name}"
                for path in sorted(folder.glob("*.md"))
                if path.name != "index.md"
            ),
        ]

    config.nav = complete(config.nav)
    return config
