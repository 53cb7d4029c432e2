# SPDX-License-Identifier: MIT
"""What griffe, which reads the Python sources for the site, does to docstrings."""

import re

import griffe


def plain(text):
    """A docstring without what Markdown, or MkDocs, would take for something else.

    >>> plain("see :class:`Planner`, of r2o[g][d], not `r2o[g][d]`")
    'see `Planner`, of r2o[g]\\\\[d], not `r2o[g][d]`'
    >>> plain("    >>> r2o[0][1]")
    '    >>> r2o[0][1]'
    """
    lines = []
    for line in text.splitlines():
        if not line.lstrip().startswith((">>>", "...")):
            line = re.sub(r":(?:class|func|meth|mod|attr|data):(?=`)", "", line)
            line = re.sub(r"(`[^`]+`)|\]\[", lambda found: found.group(1) or r"]\[", line)
        lines.append(line)
    return "\n".join(lines)


class Docstrings(griffe.Extension):
    """Makes the docstrings of a package plain, once it has been read."""

    def on_package(self, *, pkg, **_):
        todo = [pkg]
        while todo:
            obj = todo.pop()
            if obj.docstring is not None:
                obj.docstring.value = plain(obj.docstring.value)
            todo += [member for member in obj.members.values() if not member.is_alias]
