#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures PyTorch's ways to exchange counts between GPUs, for comparison with lplb_multi_bench:
the one-shot all-reduce of symmetric memory, and torch.distributed's all_gather_into_tensor. Each
runs 10,000 rounds in CUDA graphs.

usage: torchrun --nproc-per-node 2 bench/torch_exchange.py
"""

import os

import torch
import torch.distributed as dist
import torch.distributed._symmetric_memory as symm_mem

COUNTS = 256
ROUNDS = 20
REPLAYS = 500


def time_graph(launch):
    """The median and the 99th percentile of a round, in us, over REPLAYS replays of a graph of
    ROUNDS rounds."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            launch()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(ROUNDS):
                launch()
        times = []
        for i in range(2 * REPLAYS):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            if i >= REPLAYS:
                times.append(1000 * begin.elapsed_time(end) / ROUNDS)
    times.sort()
    return times[len(times) // 2], times[int(0.99 * (len(times) - 1) + 0.5)]


def main():
    rank = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", device_id=torch.device("cuda", rank))
    num_ranks = dist.get_world_size()
    mine = torch.ones(COUNTS, dtype=torch.int32, device="cuda")
    everyone = torch.empty(num_ranks * COUNTS, dtype=torch.int32, device="cuda")
    shared = symm_mem.empty(COUNTS, dtype=torch.float32, device="cuda")
    symm_mem.rendezvous(shared, dist.group.WORLD)
    shared.fill_(1)
    name = dist.group.WORLD.group_name
    torch.cuda.synchronize()
    dist.barrier()

    def all_gather():
        dist.all_gather_into_tensor(everyone, mine)

    def all_reduce():
        return torch.ops.symm_mem.one_shot_all_reduce(shared, "sum", name)

    rows = {
        "all_gather_into_tensor, 256 int32": all_gather,
        "symm_mem.one_shot_all_reduce, 256 float": all_reduce,
    }
    for what, launch in rows.items():
        dist.barrier()
        median, p99 = time_graph(launch)
        if rank == 0:
            print(f"{what:<42} {median:10.3f} {p99:10.3f}  torch {torch.__version__}", flush=True)
    assert (all_reduce() == num_ranks).all() and (everyone == 1).all()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
