# SPDX-License-Identifier: MIT
"""The command line, `python -m lplb.convert`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from lplb.convert.errors import ConvertError, OutputError
from lplb.convert.opening import open_recording
from lplb.convert.placement import read_placement
from lplb.convert.recording import Recording
from lplb.convert.trace import counted, describe, write_load, write_trace
from lplb.convert.writing import FORMS, write_placement

_BAD_USE, _BAD_INPUT, _BAD_OUTPUT = 2, 3, 4

_INPUTS = """\
INPUT, whose kind is detected from its contents:
  SGLang        expert_distribution_recorder_*.pt of any mode, all ranks' files, or their folder
  vLLM          .pt of expert_load_window and physical_to_logical_map, one a rank
                (docs/convert.md)
  TensorRT-LLM  the folder with meta_info.json and rank*.safetensors
  vLLM          JSON lines of its offline statistics (.jsonl), and saved windows (.safetensors)
  arrays        [layers, experts] or [steps, layers, experts] in .npy, .npz, .pt, .safetensors,
                .json; with --topk chosen experts, [tokens, layers, topk] or
                [steps, tokens, layers, topk]; with --layout any order of axes
  tables        .parquet, .csv with columns step, layer, expert, load (or load a list over the
                experts); SGLang's layer_id, expert_id, count, one file a rank; or .parquet with
                indices, the chosen experts of a token, one file a layer
  JSON lines    .jsonl with the load of a step, or the topk_ids of a token, in each line; traces of
                lplb
"""
_STATUS = """\
Exit status: 0 done; 2 bad command line; 3 bad input file; 4 output cannot be written.
.pt files are loaded without running any code in them; pickled objects in numpy files are refused.
"""


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


_positive.__name__ = "integer >= 1"


def _add_number(
    parser: argparse.ArgumentParser, option: str, text: str, default: int | None = None
) -> None:
    """An option that takes an integer >= 1; `text` is its help."""
    parser.add_argument(option, metavar="N", type=_positive, default=default, help=text)


def _add_out(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--out", metavar="FILE", required=True, help=text)


def _add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="files of one recording, below")
    _add_out(parser, "file to write; - is standard output")
    parser.add_argument(
        "--placement",
        metavar="FILE",
        help="the placement that was in use, if INPUT counts slots and does not hold it; any "
        "form that the command placement reads",
    )
    parser.add_argument("--key", metavar="NAME", help="name of the array, if a file has several")
    layout = (
        "the array's axes in their order, such as steps_layers_experts, ranks_layers_experts, "
        "layers_ranks_local (the experts of each rank) or tokens_layers_topk (chosen experts)"
    )
    parser.add_argument("--layout", metavar="AXES", help=layout)
    parser.add_argument("--topk", action="store_true", help="arrays are chosen experts, not loads")
    number = "how many experts a router chooses from, if chosen experts or a table do not say it"
    _add_number(parser, "--num-experts", number)
    shared = "leave out ids from --num-experts on: shared experts, or the id of padding"
    parser.add_argument("--drop-shared", action="store_true", help=shared)
    repeats = "leave out tokens that choose the very same experts as a tenth of all tokens"
    parser.add_argument("--drop-repeats", action="store_true", help=repeats)
    _add_number(parser, "--skip-steps", "leave out the first N steps with tokens", default=0)
    copies = (
        "times that each token was counted, for example the tensor-parallel size if all ranks see "
        "the same tokens; counts are divided by it (default: 1)"
    )
    _add_number(parser, "--copies", copies, default=1)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m lplb.convert",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Turn what engines record into files of lplb, and placements into theirs.",
        epilog=_INPUTS + "\n" + _STATUS,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=summary + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=(_INPUTS + "\n" if name != "placement" else "") + "Example: " + example,
        )

    trace = command(
        "trace",
        "Recorded loads to a trace, for lplb simulate",
        "python -m lplb.convert trace expert_distribution_recorder_1.pt --num-topk 8\n"
        "         --out trace.jsonl && lplb simulate --trace trace.jsonl",
    )
    _add_input(trace)
    _add_number(trace, "--num-topk", "experts of each token, if INPUT does not say it")
    sources = "write the counts of each rank too; INPUT must have them"
    trace.add_argument("--sources", action="store_true", help=sources)
    trace.add_argument("--name", metavar="TEXT", help="name of the trace in reports")

    load = command(
        "load",
        "Recorded loads, added up, to a load file, for lplb place",
        "python -m lplb.convert load statistics/ --out load.json &&\n"
        "         lplb place --load load.json --num-ranks 8 --redundants 2 --json p.json",
    )
    _add_input(load)
    _add_number(load, "--last", "only the last N steps with tokens")

    placement = command(
        "placement",
        "A placement from one form to another",
        "python -m lplb.convert placement p.json --to sglang --out experts.json &&\n"
        "         python -m sglang.launch_server --init-expert-location experts.json",
    )
    placement.add_argument(
        "input",
        metavar="INPUT",
        help="placement of lplb, SGLang (.json, .pt), vLLM (.npy, .pt, .pth, .jsonl), "
        "TensorRT-LLM (.yaml), Ascend (expert_map.json) or omni-infer (.npy), detected from its "
        "contents",
    )
    suffixes = "lplb, ascend .json; sglang .json, .pt; vllm .npy, .pt; trtllm .yaml; omni .npy"
    _add_out(placement, f"file to write: {suffixes}; - is standard output, for text")
    placement.add_argument("--to", choices=FORMS, default="lplb", help="default: lplb")
    ranks = "number of ranks; --to lplb needs it if INPUT is in another form"
    _add_number(placement, "--num-ranks", ranks)
    _add_number(placement, "--num-nodes", "number of nodes (default: 1)")
    placement.add_argument("--key", metavar="NAME", help="the model, if INPUT has several")
    first = "the model's number of the first layer, if INPUT does not say it (default: 0)"
    placement.add_argument("--first-layer", metavar="N", type=int, help=first)
    layers = "sglang: layers of the model (default: up to the last layer of INPUT)"
    _add_number(placement, "--num-layers", layers)
    updates = "trtllm: layers that it may place again in each iteration (default: 0)"
    placement.add_argument(
        "--layer-updates-per-iter", metavar="N", type=int, default=0, help=updates
    )
    return parser


def _say(text: str) -> None:
    print(f"lplb.convert: {text}", file=sys.stderr)


def _open(arguments: argparse.Namespace, num_topk: int | None) -> Recording:
    return open_recording(
        arguments.inputs,
        key=arguments.key,
        topk=arguments.topk,
        num_experts=arguments.num_experts,
        num_topk=num_topk,
        placement=arguments.placement,
        copies=arguments.copies,
        layout=arguments.layout,
        drop_shared=arguments.drop_shared,
        drop_repeats=arguments.drop_repeats,
    )


def _tell_notes(notes: Sequence[str]) -> None:
    for note in notes:
        _say(f"note: {note}")


def _run(arguments: argparse.Namespace) -> None:
    out = arguments.out
    if arguments.command == "trace":
        recording = _open(arguments, arguments.num_topk)
        summary = write_trace(
            recording,
            out,
            name=arguments.name,
            sources=arguments.sources,
            skip_steps=arguments.skip_steps,
        )
        _tell_notes(recording.notes)
        done = describe(summary, out)
    elif arguments.command == "load":
        recording = _open(arguments, None)
        load = write_load(recording, out, arguments.last, arguments.skip_steps)
        _tell_notes(recording.notes)
        layers, experts = load.shape
        sizes = f"{counted(layers, 'layer')}, {counted(experts, 'expert')}"
        done = f"{out}: {sizes}, {load.sum()} counted"
    else:
        placement = read_placement(
            arguments.input, arguments.num_ranks, arguments.num_nodes, key=arguments.key
        )
        notes = write_placement(
            placement,
            out,
            arguments.to,
            first_layer=arguments.first_layer,
            num_layers=arguments.num_layers,
            layer_updates_per_iter=arguments.layer_updates_per_iter,
        )
        _tell_notes(notes)
        layers = counted(len(placement.physical_to_logical), "layer")
        experts = counted(placement.num_logical_experts, "expert")
        least, most = placement.num_slots
        slots = counted(most, "slot") if least == most else f"{least} to {most} slots"
        done = f"{out}: {layers}, {experts}, {slots}"
    if os.fspath(out) != "-":
        print(done)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, which lacks the program's name; returns the exit status."""
    parser = make_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:
        return _BAD_USE if stop.code else 0
    try:
        _run(arguments)
    except ConvertError as error:
        _say(str(error))
        return _BAD_INPUT
    except OutputError as error:
        _say(str(error))
        return _BAD_OUTPUT
    return 0
