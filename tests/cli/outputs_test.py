#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Outputs appear whole or not at all. usage: outputs_test.py LPLB"""

import contextlib
import json
import os
import pty
import signal
import stat
import subprocess
import threading
import time
from subprocess import DEVNULL, PIPE

import support
from support import SMALL, npy

USAGE, INPUT, OUTPUT = 2, 3, 4


def ignoring(signal_number):
    """What a child calls before it becomes the command, so that the command ignores the signal."""
    return lambda: signal.signal(signal_number, signal.SIG_IGN)


class Outputs(support.CommandTest):
    def setUp(self):
        super().setUp()
        self.file("p.json", SMALL)
        self.file("l.json", {"load": [[1, 2, 3]] * 2000})
        self.file("t.npy", npy("<i4", (2, 1, 2), [0, 1, 2, -1]))
        self.solve = "solve --placement p.json --load l.json"
        self.plan = "plan --placement p.json --topk t.npy"
        trace = "--trace synthetic:W0_balanced --synthetic-num-steps 2"
        self.simulate = f"simulate {trace} --policies none"
        self.all = {
            "solve": self.solve,
            "replicate": "replicate --placement p.json --load l.json",
            "plan": f"{self.plan} --out o.npy",
            "place": "place --load l.json --num-ranks 2 --num-replicas 4",
            "simulate": self.simulate,
            "info": "info",
        }

    def run_in_shell(self, script, line, ignored=None):
        """The finished run of a shell script whose arguments, "$@", are the command's words."""
        return subprocess.run(
            ["sh", "-c", script, "sh", *support.argv(line)],
            cwd=self.folder,
            capture_output=True,
            check=False,
            preexec_fn=ignoring(ignored) if ignored else None,
        )

    def started(self, line, **options):
        """A run that goes on; what it prints on standard error is kept."""
        return subprocess.Popen(
            support.argv(line), cwd=self.folder, stdout=DEVNULL, stderr=PIPE, **options
        )

    def test_a_file_and_standard_output_hold_the_same(self):
        for name in ("solve", "replicate", "plan", "place"):
            text = self.ok(f"{self.all[name]} --json -")
            table = self.ok(f"{self.all[name]} --json o.json")
            self.assertEqual((self.folder / "o.json").read_text(), text)
            self.assertFalse(table.startswith("{"))

    def test_standard_output_is_pure_json(self):
        for name, line in self.all.items():
            self.assertIsInstance(json.loads(self.ok(f"{line} --json -")), dict, name)

    def test_full_disk(self):
        for name, line in self.all.items():
            before = sorted(os.listdir(self.folder))
            says = ["/dev/full", "No space left"]
            self.refused(f"{line} --json /dev/full", status=OUTPUT, says=says)
            with open("/dev/full", "wb") as full:
                for options in ("", "--json -"):
                    done = self.run_command(f"{line} {options}", stdout=full)
                    self.assertEqual(done.returncode, OUTPUT, (name, done.stderr))
                    self.assertEqual(done.stderr.count(b"\n"), 1)
                    self.assertIn(b"No space left", done.stderr)
            after = sorted(os.listdir(self.folder))
            # The table comes last: by then plan's array is there, whole.
            self.assertEqual(sorted(set(after) - {"o.npy"}), before, name)
            if "o.npy" in after:
                os.remove(self.folder / "o.npy")
        for line in ("--help", "--version", "solve --help", "completion bash"):
            with open("/dev/full", "wb") as full:
                done = self.run_command(line, stdout=full)
            self.assertEqual(done.returncode, OUTPUT, (line, done.stderr))

    def test_closed_pipe(self):
        for line in self.all.values():
            reader, writer = os.pipe()
            os.close(reader)
            done = self.run_command(f"{line} --json -", stdout=writer)
            os.close(writer)
            # As any other program whose reader has gone.
            self.assertEqual((done.returncode, done.stderr), (-signal.SIGPIPE, b""))
            self.assertFalse((self.folder / "o.npy").exists())

    def test_closed_standard_output(self):
        done = self.run_in_shell('exec "$@" >&-', f"{self.plan} --out o.npy --json -")
        self.assertEqual(done.returncode, OUTPUT, done.stderr)
        self.assertIn(b"standard output", done.stderr)
        self.assertFalse((self.folder / "o.npy").exists())

    def test_places_that_cannot_be_written(self):
        (self.folder / "folder").mkdir()
        problems = {"none/o": "No such file", "folder": "folder", "p.json/o": "Not a directory"}
        for line in (
            f"{self.solve} --json",
            f"{self.plan} --out",
            f"{self.simulate} --html",
            f"{self.simulate} --json",
        ):
            for path, says in problems.items():
                self.refused(line, path, status=OUTPUT, says=[path, says])

    def test_places_without_permission(self):
        if os.geteuid() == 0:
            self.skipTest("root may write everywhere")
        (self.folder / "locked").mkdir(mode=0o500)
        self.file("kept.json", "kept")
        (self.folder / "kept.json").chmod(0o400)
        self.refused(f"{self.solve} --json locked/o.json", status=OUTPUT, says=["denied"])
        self.refused(f"{self.solve} --json kept.json", status=OUTPUT, says=["denied"])
        self.assertEqual((self.folder / "kept.json").read_text(), "kept")

    def test_two_outputs_need_two_places(self):
        self.refused(f"{self.plan} --out o --json o", status=USAGE, says=["--out", "--json"])
        self.refused(f"{self.plan} --out o --json ./o", status=USAGE, says=["--out"])
        self.refused(f"{self.simulate} --html - --json -", status=USAGE, says=["--html"])

    def test_a_failure_leaves_what_was_there(self):
        self.file("o.json", "before")
        self.file("bad.json", "{")
        self.refused("solve --placement p.json --load bad.json --json o.json", status=INPUT)
        self.assertEqual((self.folder / "o.json").read_text(), "before")
        limited = self.run_in_shell(
            'ulimit -f 1; exec "$@"', f"{self.solve} --json o.json", ignored=signal.SIGXFSZ
        )
        self.assertEqual(limited.returncode, OUTPUT, limited.stderr)
        self.assertIn(b"File too large", limited.stderr)
        self.assertEqual((self.folder / "o.json").read_text(), "before")
        self.assertEqual([n for n in os.listdir(self.folder) if "tmp" in n], [])

    def test_an_existing_file_keeps_its_mode_and_a_link_stays(self):
        self.file("o.json", "before")
        (self.folder / "o.json").chmod(0o640)
        (self.folder / "link.json").symlink_to("o.json")
        self.ok(f"{self.solve} --json link.json")
        self.assertTrue((self.folder / "link.json").is_symlink())
        self.assertEqual(stat.S_IMODE((self.folder / "o.json").stat().st_mode), 0o640)
        self.assertTrue((self.folder / "o.json").read_text().startswith("{"))

    def test_a_new_file_has_the_mode_that_the_umask_leaves(self):
        self.ok(f"{self.solve} --json o.json", umask=0o027)
        self.assertEqual(stat.S_IMODE((self.folder / "o.json").stat().st_mode), 0o640)

    def test_an_output_never_replaces_an_input(self):
        (self.folder / "c.json").write_text("{}")
        before = {path: path.read_bytes() for path in self.folder.iterdir()}
        (self.folder / "link.json").symlink_to("p.json")
        for line, output, source in (
            (f"{self.plan} --out t.npy", "--out", "--topk"),
            (f"{self.plan} --out p.json", "--out", "--placement"),
            (f"{self.plan} --out o.npy --json link.json", "--json", "--placement"),
            (f"{self.plan} --out o.npy --cost c.json --json c.json", "--json", "--cost"),
            (f"{self.solve} --json ./l.json", "--json", "--load"),
            (f"{self.solve} --cost c.json --json c.json", "--json", "--cost"),
            ("replicate --placement p.json --load l.json --json p.json", "--json", "--placement"),
            ("replicate --placement p.json --load l.json --json l.json", "--json", "--load"),
            ("place --load l.json --from p.json --json p.json", "--json", "--from"),
            ("bench --trace l.json --json l.json", "--json", "--trace"),
            *(
                (f"simulate --trace t.npz --policies eplb,file:p.json{split} --json p.json",)
                + ("--json", "--policies")
                for split in ("", "+even")
            ),
            ("place --trace l.json --num-ranks 2 --json l.json", "--json", "--trace"),
            ("place --load l.json --policy r2o:p.json --json p.json", "--json", "--policy"),
            ("simulate --trace l.json --html l.json", "--html", "--trace"),
            (f"{self.simulate} --cost c.json --html c.json", "--html", "--cost"),
        ):
            self.refused(line, status=USAGE, says=[output, f"is the file of {source}"])
        for path, data in before.items():
            self.assertEqual(path.read_bytes(), data)

    def test_a_named_pipe_is_an_input_and_an_output(self):
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=lambda: pipe.write_text(json.dumps(SMALL)))
        writer.start()
        out = self.json_of("solve --placement pipe --load l.json")
        writer.join()
        self.assertEqual(len(out["results"]), 2000)
        got = []
        reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
        reader.start()
        self.ok(f"{self.solve} --json pipe")
        reader.join()
        self.assertEqual(json.loads(got[0]), out)

    def test_a_named_pipe_without_a_reader_does_not_hang(self):
        os.mkfifo(self.folder / "pipe")
        self.refused("info --json pipe", status=OUTPUT, says=["pipe", "nobody"])

    def test_a_signal_while_a_file_is_written_leaves_nothing(self):
        self.file("l.json", {"load": [[1, 2, 3]] * 40000})
        for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            before = sorted(os.listdir(self.folder))
            process = self.started(f"{self.solve} --json o.json")
            while sorted(os.listdir(self.folder)) == before and process.poll() is None:
                time.sleep(0.0005)
            process.send_signal(signal_number)
            _, message = process.communicate(timeout=60)
            self.assertEqual(message, b"")
            left = set(os.listdir(self.folder)) - set(before)
            if process.returncode == 0:  # it was faster than the signal
                self.assertEqual(left, {"o.json"})
                os.remove(self.folder / "o.json")
                continue
            self.assertEqual(process.returncode, -signal_number)
            self.assertLessEqual(left, {"o.json"})
            if left:
                written = json.loads((self.folder / "o.json").read_text())
                self.assertEqual(len(written["results"]), 40000)
                os.remove(self.folder / "o.json")

    def test_a_signal_that_is_ignored_stays_so(self):
        os.mkfifo(self.folder / "pipe")
        process = self.started("info --json pipe", preexec_fn=ignoring(signal.SIGHUP))
        time.sleep(0.5)  # it waits for a reader of the pipe
        process.send_signal(signal.SIGHUP)
        _, message = process.communicate(timeout=60)
        self.assertEqual(process.returncode, OUTPUT, message)

    def test_benchmarks_on_a_full_disk(self):
        if not self.json_of("info")["benchmarks"]:
            self.skipTest("this build has no benchmarks")
        with open("/dev/full", "wb") as full:
            done = self.run_command("bench --filter solve/.*cube --min-time 0.001", stdout=full)
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (OUTPUT, 1), done.stderr)
        self.assertIn(b"No space left", done.stderr)

    def test_a_terminal_is_no_input(self):
        leader, follower = pty.openpty()
        done = self.run_command("solve --placement - --load l.json", stdin=follower)
        os.close(leader)
        os.close(follower)
        self.assertEqual(done.returncode, INPUT)
        self.assertIn(b"terminal", done.stderr)

    def read_all(self, leader):
        """What was written to the other end of a pseudo-terminal, which is closed now."""
        shown = b""
        with contextlib.suppress(OSError):  # that is how Linux says that nothing more comes
            while more := os.read(leader, 1 << 16):
                shown += more
        os.close(leader)
        return shown

    def test_only_terminals_show_progress(self):
        trace = "--trace synthetic:W0_balanced --synthetic-num-steps 400"
        line = f"simulate {trace} --policies eplb+lplb"
        done = self.run_command(line)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        leader, follower = pty.openpty()
        done = self.run_command(f"{line} --json -", stderr=follower)
        os.close(follower)
        shown = self.read_all(leader)
        json.loads(done.stdout)
        self.assertIn(b"batches", shown)
        self.assertTrue(shown.endswith(b"\r\x1b[K"), shown[-40:])


if __name__ == "__main__":
    support.main()
