// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/host_device.h"

// Checks what a solver says of a batch, from first principles: with nothing of the solvers, their
// tables or verify_split(). It is simple enough to be read, runs on the CPU and on the device, and
// takes placements in which all ranks live and have the same speed.
namespace lplb::solvers {

/// A placement: slot p is on rank p / slots_per_rank.
struct SlotView {
  int num_ranks;
  int num_logical;
  int slots_per_rank;
  const int* slot_begin;  // [num_logical + 1], into `slot`
  const int* slot;        // [num_ranks * slots_per_rank]: the slots of each expert
};

/// What a solver says.
struct Claim {
  const int* load;              // [num_logical]
  const int* physical_load;     // [num_ranks * slots_per_rank]
  const int* rank_load;         // [num_ranks]
  const std::uint32_t* in_set;  // bit g: rank g is in the set that proves the bound
  int max_load;
  int bound;
  bool is_optimal;
};

enum Fault : unsigned {
  kNoFault = 0,
  kLostTokens = 1,  // the slots of an expert do not have its tokens, or one has less than 0
  kWrongLoads = 2,  // rank_load or max_load are not those of the slots
  kWrongBound = 4,  // the set does not prove the bound, exactly
  kWrongStatus =
      8,  // the bound exceeds max_load, or the status does not say whether they are equal
  kNotOptimal = 16,  // max_load exceeds the bound
};

LPLB_HOST_DEVICE inline int rank_of(const SlotView& s, int slot) { return slot / s.slots_per_rank; }

/// Whether every slot of expert e is on a rank of the set.
LPLB_HOST_DEVICE inline bool is_confined(const SlotView& s, const Claim& c, int e) {
  for (int i = s.slot_begin[e]; i < s.slot_begin[e + 1]; ++i) {
    const int g = rank_of(s, s.slot[i]);
    if ((c.in_set[g / 32] >> (g % 32) & 1) == 0) return false;
  }
  return true;
}

/// The faults of a claim, or-ed together.
LPLB_HOST_DEVICE inline unsigned find_faults(const SlotView& s, const Claim& c) {
  unsigned faults = kNoFault;
  long long confined = 0;
  for (int e = 0; e < s.num_logical; ++e) {
    long long sum = 0;
    for (int i = s.slot_begin[e]; i < s.slot_begin[e + 1]; ++i) {
      const int tokens = c.physical_load[s.slot[i]];
      if (tokens < 0) faults |= kLostTokens;
      sum += tokens;
    }
    if (sum != c.load[e]) faults |= kLostTokens;
    if (is_confined(s, c, e)) confined += c.load[e];
  }
  long long most = 0;
  int set_size = 0;
  for (int g = 0; g < s.num_ranks; ++g) {
    long long sum = 0;
    for (int i = 0; i < s.slots_per_rank; ++i) sum += c.physical_load[g * s.slots_per_rank + i];
    if (sum != c.rank_load[g]) faults |= kWrongLoads;
    most = sum > most ? sum : most;
    set_size += c.in_set[g / 32] >> (g % 32) & 1;
  }
  if (most != c.max_load) faults |= kWrongLoads;
  // Whatever the split is, the ranks of the set carry the experts that are nowhere else. So one of
  // them carries at least the mean, rounded up.
  if (set_size == 0 || (confined + set_size - 1) / set_size != c.bound) faults |= kWrongBound;
  if (c.bound > c.max_load || c.is_optimal != (c.bound == c.max_load)) faults |= kWrongStatus;
  if (c.max_load > c.bound) faults |= kNotOptimal;
  return faults;
}

}  // namespace lplb::solvers
