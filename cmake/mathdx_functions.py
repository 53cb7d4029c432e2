#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the cuSolverDx functions of the interior-point kernel as LTO IR, at build time.

usage: mathdx_functions.py --mathdx LIBMATHDX.SO --nvrtc LIBNVRTC.SO --out DIR ROWS:THREADS...
       mathdx_functions.py --mathdx LIBMATHDX.SO --nvrtc LIBNVRTC.SO --version

For each size it writes potrf_ROWS.ltoir with lplb_potrf(), and potrs_ROWS.ltoir with lplb_potrs()
for two right-hand sides. Both work in double precision, in blocks of THREADS threads. It also
writes cusolverdx.fatbin, which they are linked with. libmathdx is the library of the package
nvidia-libmathdx; no GPU is needed.
"""

import argparse
import concurrent.futures
import ctypes
import os
import pathlib
import sys

# These values are from libcommondx.h and libcusolverdx.h of libmathdx 0.2.
SYMBOL_NAME = 0
PRECISION_F64 = 6
EXECUTION_BLOCK = 1
SIZE, TYPE, PRECISION, SM, EXECUTION, BLOCK_DIM, API, FUNCTION, ARRANGEMENT, FILL_MODE = range(10)
POTRF, POTRS = 2, 3
FILL_LOWER = 1
# It sets the limit of shared memory; the IR is linked for older and newer architectures too.
TARGET_SM = 900


class MathDx:
    """The calls of libmathdx that are needed. If one fails, the program ends and names it."""

    def __init__(self, mathdx, nvrtc):
        ctypes.CDLL(nvrtc, mode=ctypes.RTLD_GLOBAL)  # libmathdx names it without a path
        self.lib = ctypes.CDLL(mathdx)

    def call(self, name, *args):
        status = getattr(self.lib, name)(*args)
        if status != 0:
            sys.exit(f"{name}: status {status} ({self.lib._name})")

    def version(self):
        parts = [ctypes.c_int() for _ in range(3)]
        self.call("cusolverdxGetVersion", *map(ctypes.byref, parts))
        return ".".join(str(part.value) for part in parts)

    def describe(self, function, rows, threads, symbol):
        handle = ctypes.c_longlong()
        self.call("cusolverdxCreateDescriptor", ctypes.byref(handle))
        self.call("cusolverdxSetOptionStr", handle, SYMBOL_NAME, symbol.encode())
        size = (rows, rows, 2) if function == POTRS else (rows, rows)
        arrangement = (0, 0) if function == POTRS else (0,)  # matrices are stored by columns
        for operator, values in (
            (SIZE, size),
            (TYPE, (0,)),
            (PRECISION, (PRECISION_F64,)),
            (SM, (TARGET_SM,)),
            (EXECUTION, (EXECUTION_BLOCK,)),
            (BLOCK_DIM, (threads, 1, 1)),
            (API, (0,)),
            (FUNCTION, (function,)),
            (ARRANGEMENT, arrangement),
            (FILL_MODE, (FILL_LOWER,)),
        ):
            if len(values) == 1:
                value = ctypes.c_longlong(values[0])
                self.call("cusolverdxSetOperatorInt64", handle, operator, value)
            else:
                array = (ctypes.c_longlong * len(values))(*values)
                count = ctypes.c_size_t(len(values))
                self.call("cusolverdxSetOperatorInt64s", handle, operator, count, array)
        return handle

    def fetch(self, handle, what):
        size = ctypes.c_size_t()
        self.call(f"cusolverdxGet{what}Size", handle, ctypes.byref(size))
        data = ctypes.create_string_buffer(size.value)
        self.call(f"cusolverdxGet{what}", handle, size, data)
        return data.raw


def write(job):
    mathdx, nvrtc, out, name, function, rows, threads = job
    library = MathDx(mathdx, nvrtc)
    handle = library.describe(function, rows, threads, f"lplb_{name}")
    pathlib.Path(out, f"{name}_{rows}.ltoir").write_bytes(library.fetch(handle, "LTOIR"))
    if name == "potrf" and rows == 8:
        pathlib.Path(out, "cusolverdx.fatbin").write_bytes(library.fetch(handle, "UniversalFATBIN"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mathdx", required=True)
    parser.add_argument("--nvrtc", required=True)
    parser.add_argument("--out")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("sizes", nargs="*")
    args = parser.parse_args()
    if args.version:
        print(MathDx(args.mathdx, args.nvrtc).version())
        return
    pathlib.Path(args.out).mkdir(parents=True, exist_ok=True)
    jobs = []
    for size in args.sizes:
        rows, threads = map(int, size.split(":"))
        for name, function in (("potrf", POTRF), ("potrs", POTRS)):
            jobs.append((args.mathdx, args.nvrtc, args.out, name, function, rows, threads))
    with concurrent.futures.ProcessPoolExecutor(min(len(jobs), os.cpu_count() or 1)) as pool:
        list(pool.map(write, jobs))


if __name__ == "__main__":
    main()
