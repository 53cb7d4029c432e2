# SPDX-License-Identifier: MIT
"""Converts what inference engines record into files of LPLB, and placements in both directions.

The same conversions are on the command line, ``python -m lplb.convert``; docs/convert.md is the
guide.

Examples
--------
A dump of SGLang's recorder becomes a trace for ``lplb simulate``:

    from lplb import convert

    recording = convert.open_recording("expert_distribution_recorder_1.pt", num_topk=8)
    convert.write_trace(recording, "trace.jsonl")

A placement of ``lplb place`` becomes TensorRT-LLM's load-balancer file:

    placement = convert.read_placement("placement.json")
    convert.write_placement(placement, "balancer.yaml", "trtllm", first_layer=3)

This module needs only numpy. It imports torch (2.6 or newer), safetensors, pyarrow and pyyaml when
it reads a file of their kind; if the package is missing, the error names it.
"""

from lplb.convert.errors import ConvertError, OutputError
from lplb.convert.forms import Placement
from lplb.convert.opening import open_recording
from lplb.convert.placement import read_placement
from lplb.convert.recording import Recording
from lplb.convert.trace import Summary, sum_load, write_load, write_trace
from lplb.convert.writing import write_placement

__all__ = [
    "ConvertError",
    "OutputError",
    "Placement",
    "Recording",
    "Summary",
    "open_recording",
    "read_placement",
    "sum_load",
    "write_load",
    "write_placement",
    "write_trace",
]
