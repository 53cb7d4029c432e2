#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The engines' hooks and DeepEP's buffers on a GPU, with all that is needed in one folder.

usage: engines_gpu.py --pack FOLDER --wheel LPLB_WHEEL    where PyPI can be reached
       engines_gpu.py --packages FOLDER [SECTION...]      on a machine with a GPU

Sections, each of them in processes of its own:

    vllm         vLLM's own router, EPLB state and Triton kernel, in two processes on one GPU
    sglang       SGLang's own dispatch and EPLB manager, in the same way
    time         what the hook takes on the host and on the GPU, in vLLM's router, and what vLLM's
                 own kernel takes there
    deep_ep_v1   DeepEP's Buffer: how far it starts, and what LPLB makes of it; in one process, or
                 in two if there are two GPUs
    deep_ep_v2   the same with ElasticBuffer
    deep_ep_mpi  a Buffer with an MPI communicator, in one process

That machine needs Python 3.12, PyTorch for CUDA 13 with Triton and torchvision, transformers and
pytest. A module that is missing there is replaced by an empty one (absent.py). Each section ends in
a line "passed NAME" or "failed NAME"; the status is 1 if one failed.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile

TESTS = pathlib.Path(__file__).resolve().parent
# With their processes; 0: as many as there are GPUs, at most two.
SECTIONS = {"vllm": 2, "sglang": 2, "time": 1, "deep_ep_v1": 0, "deep_ep_v2": 0, "deep_ep_mpi": 1}
SECONDS = 120  # that a section may take
ENGINES = ("sglang==0.5.23", "vllm==0.33.0", "sgl-deep-ep==0.1.2.post1")
# What such a machine seldom has of scripts/requirements-engines.txt; larger packages are absent.
CARRIED = [
    "annotated-types",
    "cachetools",
    "cbor2",
    "compressed-tensors",
    "dill",
    "email-validator",
    "fastapi",
    "gguf",
    "googleapis-common-protos",
    "httpcore2",
    "httpx2",
    "jaraco.context",
    "jaraco.functools",
    "jaraco.text",
    "jsonschema",
    "jsonschema-specifications",
    "loguru",
    "more-itertools",
    "msgspec",
    "openai",
    "opentelemetry-api",
    "opentelemetry-exporter-otlp",
    "opentelemetry-exporter-otlp-proto-common",
    "opentelemetry-proto",
    "opentelemetry-sdk",
    "opentelemetry-semantic-conventions",
    "opentelemetry-semantic-conventions-ai",
    "orjson",
    "partial-json-parser",
    "pybase64",
    "pydantic",
    "pydantic-extra-types",
    "pydantic_core",
    "python-multipart",
    "pyzmq",
    "referencing",
    "rpds-py",
    "sniffio",
    "starlette",
    "truststore",
    "typing-inspection",
]
ABSENT = [
    "IPython",
    "fastsafetensors",
    "llguidance",
    "mistral_common",
    "openai_harmony",
    "pycountry",
    "sgl_kernel",
    "tvm_ffi",
    "vllm._C",
    "vllm._C_stable_libtorch",
    "vllm._moe_C",
    "vllm.vllm_flash_attn",
    "xgrammar",
]


def pack(folder: pathlib.Path, wheel: str) -> None:
    """Writes engines.tar.gz: the engines' Python files, DeepEP, LPLB, and what they import."""
    listed = (TESTS.parents[1] / "scripts/requirements-engines.txt").read_text().splitlines()
    versions = [line for line in listed if line.split("==")[0] in CARRIED]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        wheels = pathlib.Path(temporary, "wheels")
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(wheels)]
        pip += ["--only-binary", ":all:", "--python-version", "3.12", "--implementation", "cp"]
        pip += [f"--platform=manylinux_2_{n}_x86_64" for n in (34, 28, 27, 26, 24, 17, 5)]
        pip += ["--platform=manylinux2014_x86_64", "--abi=cp312", "--abi=abi3", "--abi=none"]
        subprocess.run([*pip, *ENGINES, *versions], check=True)
        site = pathlib.Path(temporary, "site")
        for path in [*wheels.iterdir(), pathlib.Path(wheel)]:
            big = path.name.startswith(("sglang-", "vllm-"))
            with zipfile.ZipFile(path) as archive:
                names = [n for n in archive.namelist() if not big or keep(n)]
                archive.extractall(site, names)
        with tarfile.open(folder / "engines.tar.gz", "w:gz") as archive_out:
            archive_out.add(site, "site")
    print(f"{folder / 'engines.tar.gz'}: {(folder / 'engines.tar.gz').stat().st_size >> 20} MiB")


def keep(name: str) -> bool:
    """NOTE: vllm_flash_attn raises without its libraries; an empty module takes its place."""
    if name.startswith("vllm/vllm_flash_attn/"):
        return False
    return name.endswith(".py") or ".dist-info/" in name or name.startswith("sglang/kernels/jit/")


def run_section(section: str, site: str) -> bool:
    """Runs the processes of a section; prints what they print."""
    size = SECTIONS[section] or min(gpus(), 2)
    paths = os.pathsep.join([site, str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "LPLB_ENGINES_DEVICE": "cuda"}
    run = [sys.executable, "-W", "ignore", __file__]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            subprocess.Popen([*run, section, "--rank", f"{rank}/{size}:{folder}"], env=environment)
            for rank in range(size)
        ]
        for process in ranks:
            try:
                process.wait(max(started + SECONDS - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                print(f"  a process of {section} does not end", flush=True)
    passed = all(process.returncode == 0 for process in ranks)
    seconds = time.monotonic() - started
    print(f"{'passed' if passed else 'failed'} {section} ({seconds:.0f} s)", flush=True)
    return passed


def gpus() -> int:
    count = "import torch; print(torch.cuda.device_count())"
    return int(subprocess.run([sys.executable, "-c", count], capture_output=True).stdout or 0)


def run_rank(section: str, rank: int, size: int, folder: str) -> int:
    import absent
    import torch

    absent.do_without(ABSENT)
    absent.do_without_operators(["_C", "_moe_C"])
    faulthandler.enable()
    deep_ep = section.startswith("deep_ep")
    torch.cuda.set_device(rank if deep_ep else 0)
    if not deep_ep:  # they make their group themselves, of NCCL
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size
        )
    try:
        import engines_gpu_checks

        getattr(engines_gpu_checks, f"check_{section}")(rank, size, folder)
    except BaseException:
        print(f"rank {rank}, {section}:\n{traceback.format_exc()}", flush=True)
        sys.stdout.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)  # the engines' threads do not end


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--pack", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--wheel", help="of LPLB, with CUDA")
    parser.add_argument("--packages", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for section in options.sections:
        if section not in SECTIONS:
            parser.error(f"{section}: expected one of {', '.join(SECTIONS)}")
    if options.rank is not None:
        place, folder = options.rank.split(":", 1)
        rank, size = map(int, place.split("/"))
        return run_rank(options.sections[0], rank, size, folder)
    if options.pack is not None:
        if not options.wheel or not pathlib.Path(options.wheel).exists():
            parser.error(f"--wheel: is {options.wheel}, expected LPLB's wheel")
        pack(options.pack, options.wheel)
        return 0
    if options.packages is None:
        parser.error("expected --pack or --packages")
    if gpus() == 0:
        parser.error("PyTorch sees no GPU")
    with tempfile.TemporaryDirectory() as temporary:
        with tarfile.open(options.packages / "engines.tar.gz") as archive:
            archive.extractall(temporary, filter="data")
        site = f"{temporary}/site"
        results = [run_section(section, site) for section in options.sections or SECTIONS]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
