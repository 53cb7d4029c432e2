// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

#include "replicate/device/args.h"

namespace lplb::replicas {

/// The start of the block's dynamic shared memory, which is what `memory` must be. NOTE: the
/// compiler must see that it is shared; through a pointer that a function is given, each access
/// would take longer.
__device__ inline unsigned char* shared_memory([[maybe_unused]] unsigned char* memory) {
#ifdef __CUDA_ARCH__
  extern __shared__ uint4 block_memory[];
  return reinterpret_cast<unsigned char*>(block_memory);
#else
  return memory;
#endif
}

/// The names of what is in a block's shared memory; CopyLayout says what each is. NOTE: the
/// addresses are kept here, so that no use of an array waits for its offset.
struct CopyMemory {
  CopySizes sizes;
  const CopyImageHeader* header;
  const std::uint16_t* slot_expert;  ///< [num_main]
  const std::uint16_t* home;         ///< [num_logical]
  int *want, *slot_tokens, *plan_main, *plan_dynamic, *dynamic_expert, *source;
  int *rank_load, *heaviest, *heaviest_slot, *sent;
  int *order_of_rank, *order_of_expert, *list_want, *list_order;
  CopyScalars* scalars;
  Attempt* results;
  int* left;
  std::uint16_t* held;
  unsigned char* tables;
  // By open().
  int num_live = 0;
  bool replicated = false;

  __device__ CopyMemory(unsigned char* given, const CopySizes& of_sizes, const CopyLayout& l)
      : sizes(of_sizes) {
    unsigned char* const memory = shared_memory(given) + l.offset;
    const auto ints = [memory](int offset) { return reinterpret_cast<int*>(memory + offset); };
    header = reinterpret_cast<const CopyImageHeader*>(memory);
    slot_expert = reinterpret_cast<const std::uint16_t*>(memory + sizeof(CopyImageHeader));
    home = reinterpret_cast<const std::uint16_t*>(memory + l.homes);
    want = ints(l.want);
    slot_tokens = ints(l.slot_tokens);
    plan_main = ints(l.plan_main);
    plan_dynamic = ints(l.plan_dynamic);
    dynamic_expert = ints(l.dynamic_expert);
    source = ints(l.source);
    rank_load = ints(l.rank_load);
    heaviest = ints(l.heaviest);
    heaviest_slot = ints(l.heaviest_slot);
    sent = ints(l.sent);
    order_of_rank = ints(l.order_of_rank);
    order_of_expert = ints(l.order_of_expert);
    list_want = ints(l.list_want);
    list_order = ints(l.list_order);
    scalars = reinterpret_cast<CopyScalars*>(memory + l.scalars);
    results = reinterpret_cast<Attempt*>(memory + l.results);
    left = ints(l.left);
    held = reinterpret_cast<std::uint16_t*>(memory + l.held);
    tables = memory + l.tables;
  }

  /// Reads the header, after the image has come.
  __device__ void open() {
    num_live = header->num_live;
    replicated = header->replicated != 0;
  }

  /// What the ranks from `first` on have; they count from 0 then.
  __device__ CopyMemory of_ranks(int first, int count) const {
    CopyMemory m = *this;
    m.sizes.num_ranks = count;
    m.slot_expert += first * sizes.main_slots;
    m.slot_tokens += first * sizes.main_slots;
    m.plan_main += first * sizes.main_slots;
    m.plan_dynamic += first * sizes.dynamic_slots;
    m.dynamic_expert += first * sizes.dynamic_slots;
    m.source += first * sizes.dynamic_slots;
    m.rank_load += first;
    m.heaviest += first;
    m.heaviest_slot += first;
    m.sent += first;
    m.order_of_rank += first;
    return m;
  }

  /// Writes a plan without copies. Called by thread `worker` of `num_workers`.
  __device__ void clear_plan(int worker, int num_workers) const {
#pragma unroll 1
    for (int i = worker; i < sizes.num_main(); i += num_workers) plan_main[i] = slot_tokens[i];
#pragma unroll 1
    for (int i = worker; i < sizes.num_dynamic(); i += num_workers) {
      plan_dynamic[i] = 0;
      dynamic_expert[i] = -1;
    }
  }

  /// The copies that a rank has: slots in use come first.
  __device__ int received(int g) const {
    int used = 0;
    while (used < sizes.dynamic_slots && dynamic_expert[g * sizes.dynamic_slots + used] >= 0)
      ++used;
    return used;
  }

  /// A placement says that rank `g` is alive by what it holds.
  __device__ bool is_alive(int g) const { return slot_expert[g * sizes.main_slots] != kNoExpert; }
};

/// The value of word `w` of a lane, if that is one.
template <class T, int kWords>
__device__ T value_at(const T (&values)[kWords], int w) {
  T value = values[0];
#pragma unroll
  for (int i = 1; i < kWords; ++i) value = w == i ? values[i] : value;
  return value;
}

/// n / count, rounded up.
__device__ inline int divide_up(int n, int count) {
  const auto whole = static_cast<unsigned>(n) / static_cast<unsigned>(count);
  return static_cast<int>(whole) +
         (whole * static_cast<unsigned>(count) != static_cast<unsigned>(n));
}

/// A target times the mean load, rounded down, but at most `total`. NOTE: a division of 64 bits is
/// a function; calling it would cost checks before all votes of warps that follow in a kernel.
__device__ inline int level_of(const CopyImageHeader& header, int target_millionths, int total) {
  const long long tokens = static_cast<long long>(total) * target_millionths;
  const long long parts = static_cast<long long>(header.num_live) * 1'000'000;
  auto level = static_cast<long long>(static_cast<double>(tokens) * header.per_part);
  while (level * parts > tokens) --level;
  while ((level + 1) * parts <= tokens) ++level;
  return level > total ? total : static_cast<int>(level);
}

}  // namespace lplb::replicas
