#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The completion scripts of zsh and fish offer what is meant. usage: completion_test.py LPLB

The shells run for real, zsh on a terminal; what is not installed is skipped. Bash is in
help_test.py.
"""

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
import time

import support

#: What all shells must offer at the end of a line.
OFFERED = (
    ("lplb s", {"simulate", "solve"}),
    ("lplb he", {"help"}),
    ("lplb help pl", {"place", "plan"}),
    ("lplb solve --pl", {"--placement"}),
    ("lplb solve --solver ", support.SOLVERS),
    ("lplb simulate --policies cube+l", {"cube+lplb"}),
    ("lplb simulate --policies none,eplb-spread+l", {"eplb-spread+lplb"}),
    ("lplb simulate --trace synthetic:W6", {"synthetic:W6_rotating_hotspot"}),
    ("lplb solve --load scr", {"script"}),
    ("lplb report scr", {"script"}),
    ("lplb completion ", {"bash", "zsh", "fish"}),
)
ZSHRC = """
PS1='READY%% '
fpath=($PWD/functions $fpath)
autoload -U compinit
compinit -u -D
unsetopt beep prompt_sp prompt_cr auto_list
bindkey -e
LISTMAX=10000
"""


class Zsh:
    """A zsh on a terminal, in which Ctrl-D lists what can follow."""

    def __init__(self, folder):
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            environment = {"HOME": folder, "ZDOTDIR": folder, "TERM": "dumb"}
            os.execvpe("zsh", ["zsh", "-i"], {"PATH": os.environ["PATH"], **environment})
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 200, 240, 0, 0))
        self.read_until("READY% ")

    def read_until(self, mark):
        text = ""
        end = time.monotonic() + 60
        while mark not in text and time.monotonic() < end:
            if select.select([self.terminal], [], [], 1)[0]:
                text += os.read(self.terminal, 65536).decode(errors="replace")
        return text

    def offered(self, line):
        """What zsh lists at the end of `line`."""
        os.write(self.terminal, line.encode() + b"\x04")
        listed = self.read_until("READY% ")
        os.write(self.terminal, b"\x15")
        lines = listed.replace("\r", "").split("\n")[1:-1]
        words = set()
        for text in lines:
            words.update(re.split(r"\s+--\s", text)[0].split())
        return words

    def close(self):
        os.write(self.terminal, b"\x15exit\n")
        os.close(self.terminal)
        os.waitpid(self.process, 0)


class Completion(support.CommandTest):
    def test_fish(self):
        if not shutil.which("fish"):
            self.skipTest("no fish")
        self.file("script", self.ok("completion fish"))
        for line, wanted in OFFERED:
            done = subprocess.run(
                ["fish", "--no-config", "-c", 'source script; complete -C "$argv"', line],
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
                capture_output=True,
                text=True,
                check=True,
            )
            words = {text.split("\t")[0].split(",")[-1] for text in done.stdout.splitlines()}
            self.assertEqual((words, done.stderr), (wanted, ""), line)

    def test_zsh(self):
        if not shutil.which("zsh"):
            self.skipTest("no zsh")
        self.file("script", "")
        (self.folder / "functions").mkdir()
        (self.folder / "functions/_lplb").write_text(self.ok("completion zsh"))
        (self.folder / ".zshrc").write_text(ZSHRC)
        zsh = Zsh(str(self.folder))
        try:
            for line, wanted in OFFERED:
                self.assertEqual(zsh.offered(line), wanted, line)
        finally:
            zsh.close()


if __name__ == "__main__":
    support.main()
