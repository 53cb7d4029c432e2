# SPDX-License-Identifier: MIT
"""Replays a trace through policies and plots the imbalance: a picture of what balancing gains.

usage: simulate.py TRACE PICTURE [--num-ranks N] [--redundants N] [--batch-tokens N]
                   [--policies A,B]

TRACE is a file that `lplb simulate --trace` takes (python -m lplb.convert makes one from an
engine's recording), or synthetic:NAME. PICTURE is a file that matplotlib can write, such as .png or
.svg. It needs matplotlib, and the command lplb on PATH (or in --lplb).

    simulate.py data/traces/deepseek-v2-lite.load.jsonl imbalance.png --batch-tokens 1024
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

import matplotlib

matplotlib.use("Agg")  # draws to a file, without a window

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

# Colours that colour-blind readers can tell apart, also in grey (Okabe and Ito).
COLOURS = ["#999999", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"]


def simulate(arguments: argparse.Namespace) -> dict[str, Any]:
    """The report of `lplb simulate`, as docs/traces.md describes it."""
    command = [
        arguments.lplb,
        "simulate",
        "--json",
        "-",
        "--trace",
        arguments.trace,
        "--num-ranks",
        arguments.num_ranks,
        "--redundants",
        arguments.redundants,
        "--batch-tokens",
        arguments.batch_tokens,
        "--policies",
        arguments.policies,
    ]
    try:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        sys.exit(f"{arguments.lplb}: no such command, expected lplb on PATH or --lplb FILE")
    if done.returncode != 0:
        sys.exit(done.stderr.rstrip())
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def plot_bars(axes: Axes, policies: list[dict[str, Any]]) -> None:
    """Draws the mean imbalance of each policy, with a line up to the 95th percentile."""
    means = [policy["imbalance"]["mean"] for policy in policies]
    tops = [policy["imbalance"]["p95"] for policy in policies]
    rows = list(range(len(policies)))[::-1]
    axes.barh(
        rows, [mean - 1 for mean in means], left=1, color=COLOURS[: len(policies)], height=0.6
    )
    axes.hlines(rows, means, tops, color="black", linewidth=1)
    axes.plot(tops, rows, "|", color="black", markersize=8)
    axes.set_yticks(
        rows, [f"{policy['name']}  {policy['imbalance']['mean']:.3f}" for policy in policies]
    )
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(1, 1 + (max(tops) - 1) * 1.05)
    axes.set_xlabel("mean (number and bar), 95th percentile (line)")


def plot_over_time(axes: Axes, report: dict[str, Any]) -> None:
    """Draws the mean imbalance of each time bucket, in the colours of the bars."""
    starts, end = report["trace"]["bucket_start"], report["trace"]["num_batches"]
    for policy, colour in zip(report["policies"], COLOURS, strict=False):
        values = policy["over_time"]
        axes.step([*starts, end], [*values, values[-1]], where="post", color=colour)
    axes.set_xlim(0, end)
    axes.set_ylim(bottom=1)
    axes.set_xlabel("batch")


def draw(report: dict[str, Any], picture: str) -> None:
    """Draws both plots into the file `picture`."""
    trace, settings, policies = report["trace"], report["settings"], report["policies"]
    made = " (synthetic, not recorded)" if trace["synthetic"] else ""
    figure, (left, right) = plt.subplots(
        1,
        2,
        figsize=(11, 1.5 + 0.5 * max(len(policies), 4)),
        width_ratios=(5, 6),
        layout="constrained",
    )
    redundants = settings["redundants"]
    figure.suptitle(
        f"Load of the busiest rank / mean load: {trace['name']}{made}\n"
        f"{settings['num_ranks']} ranks, {redundants} redundant{'s' * (redundants != 1)} a rank",
        fontsize="medium",
    )
    plot_bars(left, policies)
    plot_over_time(right, report)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def main() -> None:
    """Reads the command line, replays, draws, and prints the best policy in one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trace")
    parser.add_argument("picture")
    parser.add_argument("--num-ranks", type=int, default=8)
    parser.add_argument("--redundants", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=0)
    parser.add_argument(
        "--policies",
        default="none,eplb,eplb+lplb,cube+even,cube+lplb",
        help="at most 7 (default: %(default)s)",
    )
    parser.add_argument("--lplb", default="lplb", help="the command (default: the one on PATH)")
    arguments = parser.parse_args()
    if arguments.policies.count(",") >= len(COLOURS):
        parser.error(f"--policies: {arguments.policies}: expected at most {len(COLOURS)}")
    report = simulate(arguments)
    draw(report, arguments.picture)
    best = min(report["policies"], key=lambda policy: float(policy["imbalance"]["mean"]))
    print(
        f"{arguments.picture}: {len(report['policies'])} policies; least imbalance with "
        f"{best['name']}: mean {best['imbalance']['mean']:.3f}"
    )


if __name__ == "__main__":
    main()
