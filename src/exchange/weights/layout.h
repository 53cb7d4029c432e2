// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/host_device.h"
#include "exchange/peer/layout.h"

// What moving the weights of copies keeps in device memory: one buffer for each rank, with the same
// layout on all ranks. Only this file and layout.cc know its offsets. See
// docs/design/0013-weights-of-copies.md.
//
//   table of peers' buffers | control | words [2 halves, members] | versions [layers, M]
//   | held [sets, S] | plans [sets] | member_of [ranks] | placements [layers, ranks * M]
//   | weights of main and dynamic slots | gradients of dynamic slots
//
// Peers write the words, and read versions, weights of main slots and gradients of dynamic slots.
// All else is the rank's own.
namespace lplb::exchange {

inline constexpr int kMaxTensors = 8;    // of an expert; its gradient tensors, too
inline constexpr int kMaxSlots = 8;      // dynamic slots of a rank
inline constexpr int kMaxPlan = 2048;    // ranks * dynamic slots
inline constexpr int kMaxBuffers = 6;    // of a block, in shared memory
inline constexpr int kTile = 32 * 1024;  // bytes that travel at once

// Why a call is not complete, in addition to ExchangeVerdict: a peer lacks what it needed; the plan
// names what does not exist, or there was no complete fetch.
inline constexpr std::uint32_t kVerdictFailed = 8;
inline constexpr std::uint32_t kVerdictRefused = 16;

/// What a rank tells its peers in a call. A word has the call's number as its epoch; its data is
/// the state, kLeft or not, and above three bits a hash of the plan.
enum WeightState : std::uint32_t {
  kArrived = 1,  ///< my weights and gradients may be read
  kDone = 2,     ///< I have read what I need
  kLacking = 3,  ///< I read no more, but lack something
};
inline constexpr std::uint32_t kStates = 3;  ///< the bits of the state
inline constexpr std::uint32_t kLeft = 4;    ///< I have left the call without the others' words
inline constexpr int kHashShift = 3;

/// The state of this rank. Peers do not access it.
struct WeightControl {
  std::uint32_t epoch;        ///< of the last call that this rank has left
  unsigned blocks_done;       ///< of the call that runs
  std::uint32_t lost;         ///< the same: a bit for each dynamic slot; or 1
  std::uint32_t verdict;      ///< the same: why
  std::int32_t missing;       ///< the same: 1 + a member that did not come; 0: none
  std::int32_t last_missing;  ///< of the last incomplete call, a member; -1: none
  unsigned long long calls, timed_out, behind, mismatched, failed, refused;
  unsigned long long copied, skipped, bytes;
};

/// What a dynamic slot holds.
struct HeldCopy {
  std::int32_t layer;  ///< 1 + the layer; 0: nothing
  std::int32_t source;
  std::int32_t main_slot;
  std::int32_t unused;
  unsigned long long version;
};

/// The start of the plan of the last fetch into a set of slots: slot_expert [ranks * S] follows,
/// then slot_source.
struct PlanRecord {
  std::int32_t layer;  ///< 1 + the layer, if that fetch was complete; else 0
  std::int32_t unused[3];
};

/// Where a tensor lies. `bytes` is the size of an expert's, and the distance to the next slot's.
struct TensorPlace {
  std::int64_t bytes, main, main_step, dynamic, dynamic_step;  // steps: of layers, of sets
};

struct WeightsLayout {
  std::int32_t num_members, num_ranks, num_layers, main_slots, dynamic_slots, num_sets;
  std::int32_t num_tensors, num_gradients;
  std::int64_t control, words, versions, held, plans, member_of, placements, bytes;
  TensorPlace tensor[kMaxTensors], gradient[kMaxTensors];  // gradients have no `main`

  LPLB_HOST_DEVICE std::int64_t word(std::uint32_t epoch, int member) const {
    return words +
           static_cast<std::int64_t>(sizeof(ExchangeWord)) * ((epoch & 1) * num_members + member);
  }
  LPLB_HOST_DEVICE std::int64_t version(int layer, int main_slot) const {
    return versions + std::int64_t{8} * (layer * main_slots + main_slot);
  }
  LPLB_HOST_DEVICE int set_of(int layer) const { return layer % num_sets; }
  LPLB_HOST_DEVICE std::int64_t held_of(int layer, int slot) const {
    return held +
           static_cast<std::int64_t>(sizeof(HeldCopy)) * (set_of(layer) * dynamic_slots + slot);
  }
  LPLB_HOST_DEVICE int plan_size() const { return num_ranks * dynamic_slots; }
  LPLB_HOST_DEVICE std::int64_t plan_bytes() const {
    return static_cast<std::int64_t>(sizeof(PlanRecord)) + std::int64_t{8} * plan_size();
  }
  LPLB_HOST_DEVICE std::int64_t plan(int layer) const {
    return plans + set_of(layer) * plan_bytes();
  }
  LPLB_HOST_DEVICE std::int64_t placement(int layer) const {
    return placements + std::int64_t{4} * layer * num_ranks * main_slots;
  }
  LPLB_HOST_DEVICE static std::int64_t main(const TensorPlace& t, int layer, int slot) {
    return t.main + layer * t.main_step + slot * t.bytes;
  }
  LPLB_HOST_DEVICE std::int64_t dynamic(const TensorPlace& t, int layer, int slot) const {
    return t.dynamic + set_of(layer) * t.dynamic_step + slot * t.bytes;
  }
};

/// The arguments of both kernels.
struct WeightArgs {
  unsigned char* own;  ///< this rank's buffer
  WeightsLayout layout;
  unsigned long long deadline_ns;
  std::int32_t member, rank, layer;
  std::int32_t num_buffers;  ///< of a block in shared memory, 2 to kMaxBuffers
  std::int32_t* outcome;     ///< [1], written: verdict bits; or null
};

struct FetchArgs : WeightArgs {
  const std::int32_t* slot_expert;  ///< [ranks, S]
  const std::int32_t* slot_source;  ///< the same
  std::int32_t* is_held;            ///< [S], written; or null
};

struct ReduceArgs : WeightArgs {
  unsigned char* main[kMaxTensors];  ///< gradient tensors of the main slots, [M, bytes] each
};

}  // namespace lplb::exchange
