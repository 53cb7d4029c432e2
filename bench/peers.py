#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Other balancers beside this one, on the same loads, in one run on one GPU.

usage: peers.py [--deepseek-lplb WHERE] [--sglang [WHERE]] [--ultraep [WHERE]]
                [--loads NAME ...] [--batches N] [--tokens N] [--device cuda|cpu] [--json FILE]

WHERE is a folder that has the balancer's package, or the Python of an environment in which it is
installed; an option without it means the Python that runs this. Nothing of the others is shipped or
fetched: without its option a balancer is left out, and how to get it is printed.

Each balancer runs in processes of its own (bench/peers/adapter.py). Loads and results are files,
and one judge (bench/peers/judge.py) says how far from the proven optimum the answers are.
bench/METHOD.md explains the table.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent / "peers"
sys.path.insert(0, str(HERE))

from adapter import read_loads  # noqa: E402
from judge import Quality, judge  # noqa: E402
from loads import NAMES, save  # noqa: E402

import lplb  # noqa: E402

TIME_LIMIT = 1800  # seconds of a balancer's process: some compile for a minute a shape

HOW_TO_GET = {
    "deepseek-ai/LPLB": "git clone https://github.com/deepseek-ai/LPLB; in it ./download-mathdx.sh"
    " and pip install --no-build-isolation --target DIR . (CUDA 12.6.3 or newer, PyTorch); then"
    " --deepseek-lplb DIR",
    "SGLang lp": "pip install 'sglang>=0.5.23' in an environment of its own; then --sglang"
    " ITS_PYTHON",
    "UltraEP": "git clone https://github.com/Dots-Infra/UltraEP; in it, with NVSHMEM, python"
    " setup.py build_ext --inplace; then --ultraep ITS_FOLDER",
}


@dataclass
class Balancer:
    name: str
    script: str  # in bench/peers
    where: pathlib.Path  # a folder, or a Python

    def command(self) -> list[str]:
        python = sys.executable if self.where.is_dir() else str(self.where)
        return [python, str(HERE / self.script)]

    def environment(self) -> dict[str, str]:
        """NOTE: the user's PYTHONPATH may lead to this project's lplb, whose name is also that of
        deepseek-ai/LPLB's. A folder comes before it, and another Python does not get it."""
        environment = dict(os.environ)
        if self.where.is_dir():
            paths = [str(self.where), *environment.get("PYTHONPATH", "").split(os.pathsep)]
            environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        else:
            environment.pop("PYTHONPATH", None)
        return environment


@dataclass
class Row:
    """What is known of a balancer on loads."""

    loads: str
    balancer: str
    found: dict[str, Any]
    quality: Quality | None


def collect(
    balancer: Balancer, folder: pathlib.Path, names: list[str], device: str
) -> dict[str, dict[str, Any]]:
    """Runs a balancer on the loads `names` and returns its results.

    If its process ends early, it is started again for what is left.
    """
    results: dict[str, dict[str, Any]] = {}
    while left := [name for name in names if name not in results]:
        paths = [folder / f"{balancer.script}.{NAMES.index(name)}.json" for name in left]
        files = [
            str(path)
            for name, result in zip(left, paths, strict=True)
            for path in (folder / f"{NAMES.index(name)}.npz", result)
        ]
        ended = run_process([*balancer.command(), device, *files], balancer.environment())
        for name, path in zip(left, paths, strict=True):
            if not path.exists():
                break
            results[name] = json.loads(path.read_text(encoding="utf-8"))
        else:
            continue
        if any("missing" in result for result in results.values()):
            break
        if left[0] not in results:
            results[left[0]] = {"reason": ended}
    return results


def run_process(command: list[str], environment: dict[str, str]) -> str:
    """Runs a process and returns how it ended, with the last line that it printed."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"its process took more than {TIME_LIMIT} s"
    except OSError as error:
        return f"its process cannot be started: {error}"
    lines = done.stdout.decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
    return f"its process ended with status {done.returncode}: {last}"


def at(values: list[float], part: float) -> float:
    return sorted(values)[round(part * (len(values) - 1))]


def time_cells(times: dict[str, list[float]] | None) -> list[str]:
    times = times or {}
    graph, eager = times.get("graph"), times.get("eager")
    return [
        f"{at(graph, 0.5):.1f}, {at(graph, 0.99):.1f}" if graph else "",
        f"{at(eager, 0.5):.1f}" if eager else "",
    ]


def mean_and_worst(values: list[float] | None) -> str:
    return f"{sum(values) / len(values):.4f}, {max(values):.4f}" if values else ""


def table(rows: list[Row]) -> list[str]:
    header = [
        "loads",
        "balancer",
        "solve us: median, p99",
        "eager",
        "run us: median, p99",
        "eager",
        "max load / optimum: mean, worst",
        "infeasible",
        "max / mean: mean, worst",
    ]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        times, quality = row.found.get("times", {}), row.quality
        line = [row.loads, row.balancer, *time_cells(times.get("solve"))]
        line += time_cells(times.get("run"))
        if quality is None:
            line += ["", "", ""]
        else:
            infeasible = str(quality.infeasible) if quality.ratio is not None else ""
            line += [mean_and_worst(quality.ratio), infeasible, mean_and_worst(quality.imbalance)]
        lines.append(line)
    return ["| " + " | ".join(cell or "-" for cell in line) + " |" for line in lines]


def reasons(rows: list[Row]) -> list[str]:
    """Why something is missing: a line for each balancer and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if "reason" in row.found:
            found.setdefault((row.balancer, row.found["reason"]), []).append(row.loads)
    return [f"{name}, {', '.join(loads)}: {why}" for (name, why), loads in found.items()]


def judge_row(name: str, balancer: Balancer, folder: pathlib.Path, found: dict[str, Any]) -> Row:
    title = f"{balancer.name} {found.get('version', '')}".strip()
    try:
        quality = judge(read_loads(str(folder / f"{NAMES.index(name)}.npz")), found)
    except ValueError as error:
        quality = None
        found["reason"] = f"its answer is refused: {error}"
    return Row(name, title, found, quality)


def where(text: str) -> pathlib.Path:
    path = pathlib.Path(text).expanduser()
    if not (path.is_dir() or (path.is_file() and os.access(path, os.X_OK))):
        raise argparse.ArgumentTypeError(f"{text} is neither a folder nor a Python interpreter")
    return path.absolute()  # NOTE: not resolved, since the python of a venv is a link


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number, expected at least 1")
    return int(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--deepseek-lplb", metavar="WHERE", type=where)
    for option in ("--sglang", "--ultraep"):
        parser.add_argument(option, metavar="WHERE", type=where, nargs="?", const=sys.executable)
    parser.add_argument("--loads", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--batches", type=positive, default=50)
    parser.add_argument("--tokens", type=positive, default=4096, help="tokens of a rank in run()")
    parser.add_argument(
        "--device",
        choices=["cuda", "cpu"],
        default="cuda",
        help="cpu: no graphs, times by the clock; for balancers that can do it",
    )
    parser.add_argument("--json", type=pathlib.Path, help="write all figures to this file")
    return parser.parse_args()


def balancers_of(options: argparse.Namespace) -> tuple[list[Balancer], list[str]]:
    """Those to run, and the names of those that were not asked for."""
    own = pathlib.Path(lplb.__file__).resolve().parents[1]
    chosen = [
        Balancer("LPLB", "lplb_planner.py", own),
        Balancer("LPLB drop-in", "lplb_drop_in.py", own),
        Balancer("LPLB copies", "lplb_copies.py", own),
    ]
    others = [
        Balancer("deepseek-ai/LPLB", "deepseek_lplb.py", options.deepseek_lplb),
        Balancer("SGLang lp", "sglang_lp.py", options.sglang),
        Balancer("UltraEP", "ultraep.py", options.ultraep),
    ]
    chosen += [balancer for balancer in others if balancer.where is not None]
    left_out = [balancer.name for balancer in others if balancer.where is None]
    return chosen, left_out


def main() -> int:
    options = parse_arguments()
    missing = lplb.cuda_info()["missing"] if options.device == "cuda" else ""
    if missing:
        print(f"peers: not run: {missing}")
        return 0
    chosen, left_out = balancers_of(options)
    for name in left_out:
        print(f"{name} is left out. To have it: {HOW_TO_GET[name]}.")
    by_loads: dict[str, list[Row]] = {name: [] for name in options.loads}
    with tempfile.TemporaryDirectory(prefix="lplb-peers-") as made:
        folder = pathlib.Path(made)
        for name in by_loads:
            save(name, folder / f"{NAMES.index(name)}.npz", options.batches, options.tokens)
        for balancer in chosen:
            results = collect(balancer, folder, list(by_loads), options.device)
            lost = next((r["reason"] for r in results.values() if "missing" in r), "")
            if lost:
                print(f"{balancer.name} cannot be imported: {lost}.")
                print(f"To have it: {HOW_TO_GET.get(balancer.name, 'install this package')}.")
                continue
            for name, found in results.items():
                by_loads[name].append(judge_row(name, balancer, folder, found))
    rows = [row for found in by_loads.values() for row in found]
    devices = sorted({row.found["device"] for row in rows if "device" in row.found})
    print(
        f"\n{', '.join(devices)}; {options.batches} batches a row, {options.tokens} tokens in run\n"
    )
    print("\n".join([*table(rows), "", *reasons(rows)]).rstrip())
    if options.json:
        options.json.write_text(json.dumps({"rows": [asdict(row) for row in rows]}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
