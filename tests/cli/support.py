# SPDX-License-Identifier: MIT
"""What the tests of the command share: run it, and make its files."""

import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest
from subprocess import PIPE

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMAND = None  # set by main()

#: The names that --solver takes in `lplb solve` and `lplb plan`.
SOLVERS = {"auto", "cut", "flow", "ipm", "time", "fast-time"}

SMALL = {"num_ranks": 2, "num_logical_experts": 3, "physical_to_logical": [0, 1, 2, 0]}


def npy(dtype, shape, values, version=(1, 0), fortran=False):
    """Bytes of a .npy file, written from the format's description."""
    header = f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape}, }}"
    length = "<H" if version[0] == 1 else "<I"
    size = 8 + struct.calcsize(length)
    header += " " * (-(size + len(header) + 1) % 64) + "\n"
    codes = {"|u1": "B", "<i2": "h", "<u4": "I", "<i4": "i", ">i4": "i", "<i8": "q", "<f4": "f"}
    code = codes[dtype]
    order = ">" if dtype[0] == ">" else "<"
    start = b"\x93NUMPY" + bytes(version) + struct.pack(length, len(header))
    return start + header.encode() + struct.pack(f"{order}{len(values)}{code}", *values)


def read_npy(data):
    """(dtype, shape, values) of a .npy file of int32 or int64."""
    assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
    (length,) = struct.unpack("<H", data[8:10])
    assert (10 + length) % 64 == 0 and data[9 + length : 10 + length] == b"\n"
    header = eval(data[10 : 10 + length], {"__builtins__": {}})  # a dict of literals
    assert header["fortran_order"] is False
    body = data[10 + length :]
    item = {"<i4": "i", "<i8": "q"}[header["descr"]]
    count = len(body) // struct.calcsize("<" + item)
    return header["descr"], header["shape"], struct.unpack(f"<{count}{item}", body)


def ranks_of(placement, layer=0):
    """[rank][slot] -> expert."""
    slots = placement["physical_to_logical"]
    slots = slots[layer] if isinstance(slots[0], list) else slots
    per_rank = len(slots) // placement["num_ranks"]
    return [slots[i : i + per_rank] for i in range(0, len(slots), per_rank)]


def argv(line="", *more):
    """The words of a command line (CommandTest says how `line` is split), the program first."""
    return [COMMAND, *line.split(), *map(str, more)]


class CommandTest(unittest.TestCase):
    """Each test has a folder of its own, which is the command's working directory.

    `line` is a command line without the program's name. It is split at white space; the arguments
    after it are words as they are: self.ok("info --json", "a name.json").
    """

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def file(self, name, content):
        if not isinstance(content, (str, bytes)):
            content = json.dumps(content)
        data = content.encode() if isinstance(content, str) else content
        (self.folder / name).write_bytes(data)
        return name

    def run_command(self, line="", *more, stdin=b"", stdout=PIPE, stderr=PIPE, **options):
        """The finished run. `stdin` is what it reads, or a file descriptor."""
        source = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
        return subprocess.run(
            argv(line, *more),
            cwd=self.folder,
            stdout=stdout,
            stderr=stderr,
            timeout=120,
            check=False,
            **source,
            **options,
        )

    def ok(self, line, *more, **options):
        """Standard output of a run that must succeed and say nothing on standard error."""
        done = self.run_command(line, *more, **options)
        self.assertEqual((done.returncode, done.stderr), (0, b""), f"{line} {more}: {done.stderr}")
        return done.stdout.decode()

    def json_of(self, line, *more, **options):
        return json.loads(self.ok(line, *more, "--json", "-", **options))

    def refused(self, line="", *more, status, says=(), **options):
        """A run that must fail with `status`, with one line that holds all of `says`."""
        before = sorted(os.listdir(self.folder))
        done = self.run_command(line, *more, **options)
        message = done.stderr.decode()
        context = f"{line} {more}: {done.returncode} {message!r}"
        self.assertEqual(done.returncode, status, context)
        self.assertTrue(message.startswith("lplb: ") and message.endswith("\n"), context)
        self.assertEqual(message.count("\n"), 1, context)
        self.assertTrue(message[:-1].isprintable(), context)
        self.assertLess(len(message), 2100, context)
        for text in says:
            self.assertIn(text, message, context)
        self.assertEqual(done.stdout, b"", context)
        self.assertEqual(sorted(os.listdir(self.folder)), before, context)
        return message


def main():
    global COMMAND
    COMMAND = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
