# SPDX-License-Identifier: MIT
"""Tries a change of a source: applies it, builds and runs test after test until one fails, and
takes the change back whatever happens."""

import dataclasses
import os
import re
import resource
import signal
import subprocess
import time

# A changed program may take all the memory there is. Threads reserve their stacks, of which the
# emulated kernels have a thousand.
MAX_MEMORY = 6 << 30
STACK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Step:
    """A test: commands that build and run it, and how many seconds it may run."""

    name: str
    build: tuple[str, ...]
    run: tuple[str, ...]
    limit: float


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of a change: "caught" (`by` says where), "survived" or "not compiled"."""

    outcome: str
    by: str = ""


def limit_resources():
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_STACK, (STACK, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(command, limit):
    """(exit status, output) of a test; the status is None if it was stopped after `limit` s."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=limit_resources,
        env=os.environ | {"GTEST_FAIL_FAST": "1"},
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit)
            return process.returncode, output
        except subprocess.TimeoutExpired:
            return None, ""
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def failed_test(output):
    """The name of the test that failed, or that ran when the program ended."""
    found = re.findall(r"^\[  FAILED  \] ([\w./]+)", output, re.MULTILINE)
    found = found or re.findall(r"^\[ RUN      \] ([\w./]+)", output, re.MULTILINE)[-1:]
    found = found or re.findall(r"^\s*\d+ - (\S+) \(Failed\)", output, re.MULTILINE)
    return found[0] if found else ""


def seconds(step):
    """How long a step's test takes without a change, which must not make it fail."""
    subprocess.run(step.build, check=True, stdout=subprocess.DEVNULL)
    begin = time.monotonic()
    status, output = run(step.run, step.limit)
    if status != 0:
        raise RuntimeError(f"{step.name} fails without a change: {failed_test(output)}\n{output}")
    return time.monotonic() - begin


def judge(file, change, steps):
    """Changes `file`, whose text the change was found in, and says which step notices. Before each
    step the file is as it was, so that `steps` can be a generator that tries a test first."""
    text = file.read_text()
    for step in steps:
        try:
            file.write_text(change.apply(text))
            if subprocess.run(step.build, capture_output=True, check=False).returncode != 0:
                return Verdict("not compiled")
            status, output = run(step.run, step.limit)
        finally:
            file.write_text(text)
        if status is None:
            return Verdict("caught", f"{step.name}: time-out")
        if status != 0:
            return Verdict("caught", f"{step.name} {failed_test(output)}".strip())
    return Verdict("survived")
