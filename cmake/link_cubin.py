#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Links device code in LTO IR to a cubin for each architecture, and packs the cubins as one fatbin.

usage: link_cubin.py --nvjitlink LIBNVJITLINK.SO --fatbinary FATBINARY --archs 90,100
                     --out OUT.fatbin INPUT.fatbin|INPUT.ltoir...

nvJitLink does here what nvcc -dlink does. nvlink would need libnvvm, which some toolkits lack.
"""

import argparse
import ctypes
import pathlib
import subprocess
import sys

LTOIR, FATBIN = 3, 4  # nvJitLinkInputType


class Linker:
    def __init__(self, library, arch):
        self.lib = ctypes.CDLL(library)
        self.handle = ctypes.c_void_p()
        options = (ctypes.c_char_p * 2)(f"-arch=sm_{arch}".encode(), b"-lto")
        self.call("Create", ctypes.byref(self.handle), 2, options)

    def function(self, name):
        return getattr(self.lib, "nvJitLink" + name)

    def call(self, name, *args):
        status = self.function(name)(*args)
        if status != 0:
            sys.exit(f"nvJitLink{name}: status {status}\n{self.log()}")

    def log(self):
        size = ctypes.c_size_t()
        if self.function("GetErrorLogSize")(self.handle, ctypes.byref(size)) != 0:
            return ""
        text = ctypes.create_string_buffer(size.value + 1)
        self.function("GetErrorLog")(self.handle, text)
        return text.value.decode(errors="replace")

    def link(self, inputs):
        for path in inputs:
            data = pathlib.Path(path).read_bytes()
            kind = FATBIN if path.endswith(".fatbin") else LTOIR
            self.call("AddData", self.handle, kind, data, ctypes.c_size_t(len(data)), path.encode())
        self.call("Complete", self.handle)
        size = ctypes.c_size_t()
        self.call("GetLinkedCubinSize", self.handle, ctypes.byref(size))
        cubin = ctypes.create_string_buffer(size.value)
        self.call("GetLinkedCubin", self.handle, cubin)
        return cubin.raw


def main():
    parser = argparse.ArgumentParser()
    for name in ("--nvjitlink", "--fatbinary", "--archs", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("inputs", nargs="+")
    args = parser.parse_args()
    cubins = []
    for arch in args.archs.split(","):
        cubin = pathlib.Path(f"{args.out}.sm_{arch}.cubin")
        cubin.write_bytes(Linker(args.nvjitlink, arch).link(args.inputs))
        cubins.append(f"--image3=kind=elf,sm={arch},file={cubin}")
    subprocess.run(
        [args.fatbinary, "-64", "--compress-all", f"--create={args.out}", *cubins], check=True
    )


if __name__ == "__main__":
    main()
