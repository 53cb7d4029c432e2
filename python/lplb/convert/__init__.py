# SPDX-License-Identifier: MIT
"""From what engines record to what LPLB reads, and placements both ways.

On the command line it is ``python -m lplb.convert``; docs/convert.md has the guide.

Examples
--------
A dump of SGLang's recorder becomes a trace for ``lplb simulate``:

    from lplb import convert

    recording = convert.open_recording("expert_distribution_recorder_1.pt", num_topk=8)
    convert.write_trace(recording, "trace.jsonl")

A placement of ``lplb place`` becomes TensorRT-LLM's load-balancer file:

    placement = convert.read_placement("placement.json")
    convert.write_placement(placement, "balancer.yaml", "trtllm", first_layer=3)

numpy is enough to import this module. torch (2.6 or newer), safetensors, pyarrow and pyyaml are
imported where a file of their kind is read, and a message names the one that is missing.
"""

from lplb.convert.errors import ConvertError, OutputError
from lplb.convert.opening import open_recording
from lplb.convert.placement import Placement, read_placement, write_placement
from lplb.convert.recording import Recording
from lplb.convert.trace import Summary, sum_load, write_load, write_trace

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
