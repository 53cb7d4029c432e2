#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the commands and programs that a page shows, and compares what they print with the page.

usage: run_readme.py PAGE --lplb COMMAND --library FILE [--cxx CXX] [--example FILE] [--update]

- A ```console block holds commands ("$ command"; a backslash continues the line) and what each of
  them prints on both streams.
- A ```cpp block with a main() is compiled against the library and run; the ```text block after it
  holds what it prints. The first such program is under 20 lines and equals the file --example,
  without that file's licence line.
- Blocks of other kinds (```sh, ```json) are only for reading.

Some differences are ignored: several spaces equal one space; "..." in a line stands for any text; a
line "..." stands for any lines. A comment before the block can say more:
  <!-- varies: NAME -->  numbers in the column NAME of a table may differ
  <!-- exit: N -->       the block's commands end with status N, not 0

Commands run in a folder that has links to the project's files, with lplb on PATH. Commands that
start with scripts/ run in the project itself; only their standard output is compared. scripts/run
is run. Other scripts are only checked to exist, because scripts/test would run this program.

If what is printed differs from PAGE, --update writes it into PAGE.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RUN_SCRIPTS = ("scripts/run",)
MAX_PROGRAM_LINES = 19


class Block:
    """A fenced block: its kind, lines and place in the page, and the notes before it."""

    def __init__(self, kind, first, notes):
        self.kind, self.first, self.notes, self.lines = kind, first, notes, []


def blocks_of(lines):
    """The fenced blocks of a page. Their `first` is the index of the line after the fence."""
    blocks, open_block, notes = [], None, {}
    for index, line in enumerate(lines):
        if open_block is not None:
            if line.strip() == "```":
                open_block = None
            else:
                open_block.lines.append(line)
            continue
        comment = re.fullmatch(r"\s*<!--\s*(varies|exit):\s*(\S+)\s*-->\s*", line)
        if comment:
            notes[comment.group(1)] = comment.group(2)
        elif line.startswith("```"):
            open_block = Block(line[3:].strip(), index + 1, notes)
            blocks.append(open_block)
            notes = {}
        elif line.strip():
            notes = {}
    if open_block is not None:
        raise ValueError(f"line {open_block.first}: the block has no end")
    return blocks


def commands_of(block):
    """A list of (command, index in block.lines of its first output line, its output lines)."""
    commands, index = [], 0
    while index < len(block.lines):
        line = block.lines[index]
        index += 1
        if not line.startswith("$ "):
            raise ValueError(f"line {block.first + index}: output before the first command")
        command = line[2:]
        while command.endswith("\\") and index < len(block.lines):
            command += "\n" + block.lines[index]
            index += 1
        start = index
        while index < len(block.lines) and not block.lines[index].startswith("$ "):
            index += 1
        commands.append((command, start, block.lines[start:index]))
    return commands


def hide_column(lines, name):
    """`lines` with # instead of the numbers in the table's column `name`."""
    hidden, column, width = [], None, 0
    for line in lines:
        words = line.split()
        if name in words:
            column, width = words.index(name), len(words)
        elif column is not None and len(words) == width:
            if re.fullmatch(r"[0-9.]+", words[column]):
                words[column] = "#"
        else:
            column = None
        hidden.append(" ".join(words))
    return hidden


def trimmed(lines, notes):
    """The lines that are compared: with single spaces, without empty lines at both ends."""
    if "varies" in notes:
        lines = hide_column(lines, notes["varies"])
    lines = [" ".join(line.split()) for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    return lines


def line_matches(shown, printed):
    pattern = ".*".join(re.escape(part) for part in shown.split("..."))
    return re.fullmatch(pattern, printed) is not None


def output_matches(shown, printed, notes=None):
    """Whether the lines `printed` are those that the page shows."""
    notes = notes or {}
    shown, printed = trimmed(shown, notes), trimmed(printed, notes)
    # reach: how many printed lines the shown lines so far may match.
    reach = {0}
    for line in shown:
        if line == "...":
            reach = set(range(min(reach), len(printed) + 1)) if reach else set()
        else:
            reach = {i + 1 for i in reach if i < len(printed) and line_matches(line, printed[i])}
    return len(printed) in reach


class Page:
    """A page, the problems found in it, and the changes that --update makes."""

    def __init__(self, path, arguments):
        self.path, self.arguments = path, arguments
        self.lines = path.read_text().splitlines()
        self.problems, self.checked, self.changes = [], 0, []

    def problem(self, line, text):
        """Adds a problem in the line number `line`."""
        self.problems.append(f"{self.path.name}:{line}: {text}")

    def compare(self, line, what, shown, printed, notes):
        """Compares the lines shown from the index `line` on with those printed."""
        if output_matches(shown, printed, notes):
            return
        if self.arguments.update:
            self.changes.append((line, len(shown), printed))
            return
        shown, printed = ("".join(f"    {text}\n" for text in lines) for lines in (shown, printed))
        self.problem(line + 1, f"{what}\n  shown:\n{shown}  printed:\n{printed}")

    def run_console(self, block, folder, environment):
        for command, start, shown in commands_of(block):
            script = command.split()[0]
            in_project = script.startswith("scripts/")
            if in_project and not os.access(ROOT / script, os.X_OK):
                self.problem(block.first + start, f"no program {script}")
                continue
            if in_project and script not in RUN_SCRIPTS:
                continue
            self.checked += 1
            result = subprocess.run(
                ["bash", "-c", command],
                cwd=ROOT if in_project else folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                check=False,
                stderr=subprocess.PIPE if in_project else subprocess.STDOUT,
            )
            expected, line = int(block.notes.get("exit", 0)), block.first + start
            if result.returncode != expected:
                status = f"exit status {result.returncode}, expected {expected}"
                output = result.stdout + (result.stderr or "")
                self.problem(line, f"{command}: {status}\n{output}")
                continue
            self.compare(line, command, shown, result.stdout.splitlines(), block.notes)

    def run_program(self, block, output, folder):
        self.checked += 1
        source, program = folder / "program.cc", folder / "program"
        source.write_text("\n".join(block.lines) + "\n")
        options = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-O1", f"-I{ROOT / 'include'}"]
        libraries = [self.arguments.library, *self.arguments.libs.split(), "-pthread"]
        build = [self.arguments.cxx, *options, source, "-o", program, *libraries]
        result = subprocess.run(build, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            self.problem(block.first + 1, f"the program does not compile:\n{result.stderr}")
            return
        result = subprocess.run([program], capture_output=True, text=True, check=False, timeout=60)
        if result.returncode != 0:
            status = f"the program ends with status {result.returncode}"
            self.problem(block.first + 1, f"{status}:\n{result.stderr}")
            return
        printed = result.stdout.splitlines()
        self.compare(output.first, "the program above", output.lines, printed, output.notes)

    def check_first_program(self, block):
        if len(block.lines) > MAX_PROGRAM_LINES:
            problem = f"{len(block.lines)} lines, at most {MAX_PROGRAM_LINES}"
            self.problem(block.first + 1, problem)
        if self.arguments.example:
            example = pathlib.Path(self.arguments.example).read_text().splitlines()
            if [line for line in example if "SPDX-License-Identifier" not in line] != block.lines:
                self.problem(block.first + 1, f"is not {self.arguments.example}")

    def run(self):
        blocks = blocks_of(self.lines)
        bin_folder = pathlib.Path(self.arguments.lplb).resolve().parent
        environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
        programs = 0
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            for entry in ROOT.iterdir():
                if entry.name not in ("out", ".git", "build"):
                    (folder / entry.name).symlink_to(entry)
            (folder / "out").mkdir()
            for block, after in zip(blocks, [*blocks[1:], None]):
                if block.kind == "console":
                    self.run_console(block, folder, environment)
                elif block.kind == "cpp" and any("int main(" in line for line in block.lines):
                    if programs == 0:
                        self.check_first_program(block)
                    programs += 1
                    if after is None or after.kind != "text":
                        problem = "no ```text block with the program's output follows"
                        self.problem(block.first + 1, problem)
                        continue
                    self.run_program(block, after, folder)
        if self.checked == 0:
            self.problems.append(f"{self.path.name}: shows no command or program that can be run")

    def update(self):
        for line, count, printed in reversed(self.changes):
            self.lines[line : line + count] = printed
        self.path.write_text("\n".join(self.lines) + "\n")


def broken_links(path):
    """Yields the relative links of a page whose targets do not exist."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:|#", target):
            continue
        if not (path.parent / target.split("#")[0]).exists():
            yield f"{path.name}: link to {target}, which does not exist"


def main():
    summary, _, details = __doc__.split("\n\n", 2)
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("--lplb", required=True, help="the command")
    parser.add_argument("--library", required=True, help="liblplb")
    parser.add_argument("--libs", default="", help="what the library needs, as for pkg-config")
    parser.add_argument("--cxx", default="g++")
    parser.add_argument("--example", help="file of the first program")
    parser.add_argument("--update", action="store_true")
    page = Page(parser.parse_args().page, parser.parse_args())
    try:
        page.run()
    except ValueError as error:
        page.problems.append(f"{page.path.name}: {error}")
    page.problems += broken_links(page.path)
    if page.changes:
        page.update()
    print("\n".join(page.problems) or f"{page.checked} commands and programs print what is shown")
    sys.exit(1 if page.problems else 0)


if __name__ == "__main__":
    main()
