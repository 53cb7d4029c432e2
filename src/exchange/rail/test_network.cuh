// SPDX-License-Identifier: MIT
#pragma once

#include "exchange/rail/round.cuh"
#include "exchange/rail/test_network.h"

namespace lplb::testing {

struct MemoryNetwork : MemoryNetworkArgs {
  __device__ void put(int domain, std::int64_t to, std::int64_t from, int bytes, int signal) const {
    auto* const there = reinterpret_cast<unsigned char*>(buffers[domain]);
    if (device::lane_id() == 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(there + signals) + signal, 1ull);
    }
    constexpr int kLine = sizeof(exchange::ExchangeLine);
    for (int at = device::lane_id() * kLine; at < bytes; at += device::kWarpSize * kLine) {
      const exchange::ExchangeLine line = exchange::load_line(own + from + at);
      exchange::store_line(there + to + at, line.word[0], line.word[1]);
    }
  }
  __device__ unsigned long long signal(int index) const {
    return device::load_signal(own + signals + std::int64_t{8} * index);
  }
};

}  // namespace lplb::testing
