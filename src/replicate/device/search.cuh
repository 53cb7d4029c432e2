// SPDX-License-Identifier: MIT
#pragma once

#include "replicate/device/fill.cuh"
#include "replicate/device/general_split.cuh"
#include "replicate/device/slot_bound.cuh"
#include "replicate/search_steps.h"

// What follows if the first attempt does not reach the bound: Domain::plan() from there on. The
// CPU tries one level after another, the device one in each warp; both count the same attempts in
// the same order.
namespace lplb::replicas {

/// A plan on its way: the same on all threads. Levels are as in BasicAttempt.
template <class Level>
struct BasicCopyPlan {
  Level max;
  int copies;
  Level bound;    ///< no plan is below it
  int outside;    ///< the ranks that prove it are those with order_of_rank >= outside
  Level without;  ///< the largest load without copies
};
using CopyPlan = BasicCopyPlan<int>;

/// bound_by_slots() for a domain with `total` tokens, in the general form.
__device__ inline __noinline__ solvers::DeviceLevel bound_domain_by_slots(const CopyArgs& args,
                                                                          unsigned char* memory,
                                                                          int domain, int total,
                                                                          int& size) {
  const DomainRanks ranks(args, memory, domain, total);
  return bound_by_slots(ranks.memory(args, memory), ranks, size);
}

/// All threads of the block call its functions.
template <int kWords, class Ranks = EqualRanks>
class CopySearch {
 public:
  using Level = typename Ranks::Level;
  using Attempt = BasicAttempt<Level>;
  using CopyPlan = BasicCopyPlan<Level>;

  __device__ CopySearch(const CopyArgs& args, unsigned char* memory, const Ranks& ranks = {})
      : args_(args),
        memory_(memory),
        ranks_(ranks),
        m_(ranks.memory(args, memory)),
        results_(reinterpret_cast<Attempt*>(m_.results)),
        thread_(threadIdx.x),
        warp_(thread_ / device::kWarpSize) {}

  /// Continues after the attempt `first` for level `start`, which the arrays of the plan hold.
  /// `plan` describes the batch without copies. Returns whether an exact split over the slots must
  /// follow. Ends in a barrier.
  __device__ bool run(Level start, Attempt first, CopyPlan plan) {
    plan_ = plan;
    kept_ = {start, -1};
    count(first, start, -1);
    bool is_raised = false;
    if (first.closed == 0) {
      plan_ = raise_bound(plan_);
      is_raised = true;
      const bool is_higher = ranks_.above(plan_.bound, start);
      const Level least = is_higher ? plan_.bound : start;
      if (!try_detours(least, is_higher)) search(least);
    }
    if (!(best_ == kept_)) keep(best_);
    if (!ranks_.above(plan_.max, plan_.bound)) return false;
    if (!is_raised) plan_ = raise_bound(plan_);
    __syncthreads();  // attempts have used the memory of the split
    return plan_.copies > 0 && ranks_.above(plan_.max, plan_.bound);
  }

  __device__ const CopyPlan& plan() const { return plan_; }

  /// Domain::split_exactly(), after the split, in which `max` is the largest load.
  __device__ void take_split(Level max) {
    if (!ranks_.above(plan_.max, max)) return;
    const ExactSplit<kWords> split(m_, args_.tables);  // to read the shares
    const CopySizes& sizes = m_.sizes;
    if (thread_ == 0) m_.scalars->changed = 0;
    __syncthreads();
    for_each(sizes.num_dynamic(), [&](int i) {
      const int e = m_.dynamic_expert[i];
      // NOTE: into `source`, which is free, because the split may not be taken.
      m_.source[i] = e < 0 ? 0 : split.share(e, i / sizes.dynamic_slots, 0, 1);
      if (m_.source[i] > 0 && m_.source[i] < args_.min_tokens) atomicOr(&m_.scalars->changed, 1);
    });
    __syncthreads();
    if (m_.scalars->changed != 0) return;
    for_each(sizes.num_main(), [&](int slot) { m_.plan_main[slot] = main_share(split, slot); });
    __syncthreads();
    if (thread_ == 0) m_.scalars->changed = 0;
    __syncthreads();
    for_each(sizes.num_ranks, [&](int g) { drop_empty(g); });
    __syncthreads();
    plan_.max = max;
    plan_.copies -= m_.scalars->changed;
  }

  /// Raises the bound of `plan` by what the number of slots proves. Ends in a barrier.
  __device__ CopyPlan raise_bound(CopyPlan plan) const {
    int outside;
    Level level;
    if constexpr (Ranks::kAreEqual) {
      level = bound_by_slots(m_, ranks_, outside);
    } else {
      level = bound_domain_by_slots(args_, memory_, ranks_.domain, ranks_.total, outside);
    }
    if (!ranks_.above(level, plan.bound)) return plan;
    plan.bound = level;
    plan.outside = outside;
    return plan;
  }

 private:
  static constexpr int kNoCopies = -2;

  /// How an attempt was made. Detour kNoCopies: not at all.
  struct How {
    Level level{};
    int detour = kNoCopies;
    __device__ bool operator==(const How& other) const {
      return level == other.level && detour == other.detour;
    }
  };

  /// Makes an attempt the plan if it is better.
  __device__ void count(const Attempt& attempt, Level level, int detour) {
    if (ranks_.above(attempt.max, plan_.max)) return;
    if (!ranks_.above(plan_.max, attempt.max) && attempt.copies >= plan_.copies) return;
    plan_.max = attempt.max;
    plan_.copies = attempt.copies;
    best_ = {level, detour};
  }

  /// Each warp for which `takes_part` holds makes an attempt; `results` has them afterwards.
  __device__ void attempt(bool takes_part, Level level, int detour) {
    __syncthreads();  // all have read the results before
    if (takes_part) {
      const Attempt result = fill(warp_, level, detour, false);
      if (thread_ % device::kWarpSize == 0) results_[warp_] = result;
    }
    __syncthreads();
  }
  /// Makes attempt `which` of the block.
  __device__ Attempt fill(int which, Level level, int detour, bool keep) const {
    if constexpr (Ranks::kAreEqual) {
      return fill_in_warp<kWords>(args_, memory_, which, level, detour, keep, false);
    } else {
      return fill_domain(args_, memory_, ranks_.domain, ranks_.total, which, level, detour, keep);
    }
  }

  /// Tries `level`, if it is new, and then detours, until one closes.
  __device__ bool try_detours(Level level, bool is_new) {
    const int attempts = args_.layout.num_attempts;
    const int before = is_new ? 1 : 0;
    const int end = min(kMaxDetours, m_.sizes.num_dynamic()) + before;
#pragma unroll 1
    for (int first = 0; first < end; first += attempts) {
      attempt(warp_ < attempts && first + warp_ < end, level, first + warp_ - before);
#pragma unroll 1
      for (int i = 0; i < min(attempts, end - first); ++i) {
        const Attempt result = results_[i];
        count(result, level, first + i - before);
        if (result.closed != 0) return true;
      }
    }
    return false;
  }

  /// Domain::search(). Which level it tries depends on which of the levels before have closed: a
  /// binary tree, numbered as a heap. Each round tries all levels of a few steps.
  __device__ void search(Level start) {
    using Interval = SearchInterval<int>;
    int depth = 1;
    while ((2 << depth) - 1 <= args_.layout.num_attempts) ++depth;
    Interval now{ranks_.tokens_of(start), ranks_.tokens_of(plan_.max)};
#pragma unroll 1
    while (now.goes_on()) {
      const int node = warp_ + 1;
      Interval mine = now;
      bool takes_part = node < 1 << depth && mine.goes_on();
      int bit = 0;
      while (2 << bit <= node) ++bit;
#pragma unroll 1
      while (takes_part && bit-- > 0) {
        mine.step((node >> bit & 1) != 0);
        takes_part = mine.goes_on();
      }
      attempt(takes_part, ranks_.level_of(mine.middle()), -1);
      int at = 1;
#pragma unroll 1
      for (int i = 0; i < depth && now.goes_on(); ++i) {
        const Attempt result = results_[at - 1];
        count(result, ranks_.level_of(now.middle()), -1);
        now.step(result.closed != 0);
        at = 2 * at + (result.closed != 0 ? 1 : 0);
      }
    }
    // The best attempt may not have closed. Some of its copies are in vain then.
    const Level level = plan_.max;
    keep({level, -1});
    count(results_[0], level, -1);
  }

  /// Makes the arrays of the plan those of an attempt, of which `results` has the first then. Ends
  /// in a barrier.
  __device__ void keep(How how) {
    __syncthreads();
    if (how.detour == kNoCopies) {
      m_.clear_plan(thread_, kCopyThreads);
    } else if (warp_ == 0) {
      const Attempt result = fill(0, how.level, how.detour, true);
      if (thread_ == 0) results_[0] = result;
    }
    kept_ = how;
    __syncthreads();
  }

  template <class Body>
  __device__ void for_each(int count, Body body) const {
#pragma unroll 1
    for (int i = thread_; i < count; i += kCopyThreads) body(i);
  }

  /// The tokens of a main slot. On the CPU the unused dynamic slots of a rank count as slots of its
  /// first expert, and what they would get goes to the first main slot.
  __device__ int main_share(const ExactSplit<kWords>& split, int slot) const {
    const CopySizes& sizes = m_.sizes;
    const int e = m_.slot_expert[slot];
    if (e == kNoExpert) return 0;
    const int rank = slot / sizes.main_slots;
    const int first = rank * sizes.main_slots;
    int index = 0;
    int count = 0;
    for (int other = first; other < first + sizes.main_slots; ++other) {
      const bool same = m_.slot_expert[other] == e;
      index += same && other < slot ? 1 : 0;
      count += same ? 1 : 0;
    }
    if (m_.slot_expert[first] != e) return split.share(e, rank, index, count);
    const int mains = count;
    for (int i = rank * sizes.dynamic_slots; i < (rank + 1) * sizes.dynamic_slots; ++i) {
      count += m_.dynamic_expert[i] < 0 ? 1 : 0;
    }
    int tokens = split.share(e, rank, index, count);
    for (int i = mains; slot == first && i < count; ++i) tokens += split.share(e, rank, i, count);
    return tokens;
  }

  /// Takes the tokens of a rank's copies, and drops those without any. Slots in use come first.
  __device__ void drop_empty(int rank) const {
    const int first = rank * m_.sizes.dynamic_slots;
    int used = 0;
    for (int i = first; i < first + m_.sizes.dynamic_slots; ++i) {
      const int e = m_.dynamic_expert[i];
      const int tokens = m_.source[i];
      m_.dynamic_expert[i] = -1;
      m_.plan_dynamic[i] = 0;
      if (e < 0) continue;
      if (tokens == 0) {
        atomicAdd(&m_.scalars->changed, 1);
        continue;
      }
      m_.dynamic_expert[first + used] = e;
      m_.plan_dynamic[first + used++] = tokens;
    }
  }

  const CopyArgs& args_;
  unsigned char* const memory_;
  const Ranks ranks_;
  const CopyMemory m_;
  Attempt* const results_;
  const int thread_;
  const int warp_;
  CopyPlan plan_{};
  How best_;
  How kept_;  // what the arrays of the plan hold
};

/// Raises the bound of a batch that needs no copies for its target.
template <int kWords>
__device__ __noinline__ CopyPlan raise_bound(const CopyArgs& args, unsigned char* memory,
                                             CopyPlan plan) {
  CopySearch<kWords> search(args, memory);
  return search.raise_bound(plan);
}

/// Gives each main slot its tokens of a split over main slots alone. All threads of the block call
/// it. Ends in a barrier.
template <class Split>
__device__ __forceinline__ void share_main_slots(const CopyMemory& m, const Split& split, int* to) {
  const int slots = m.sizes.main_slots;
#pragma unroll 1
  for (int slot = static_cast<int>(threadIdx.x); slot < m.sizes.num_main(); slot += kCopyThreads) {
    const int e = m.slot_expert[slot];
    const int first = slot / slots * slots;
    int index = 0;
    int count = 0;
    for (int other = first; other < first + slots; ++other) {
      const bool same = m.slot_expert[other] == e;
      index += same && other < slot ? 1 : 0;
      count += same ? 1 : 0;
    }
    to[slot] = e == kNoExpert ? 0 : split.share(e, slot / slots, index, count);
  }
  __syncthreads();
}

/// CopySearch::run() and the exact split as a function of its own, so that the plans of most
/// batches do not carry its registers. NOTE: the code of the split is in it, and in
/// split_main_slots() again. If both called one function, the plans of most batches would have to
/// keep more in local memory.
template <int kWords>
__device__ __noinline__ CopyPlan search_copies(const CopyArgs& args, unsigned char* memory,
                                               int start, Attempt first, CopyPlan plan) {
  CopySearch<kWords> search(args, memory);
  if (search.run(start, first, plan)) {
    const CopyMemory m = EqualRanks::memory(args, memory);
    ExactSplit<kWords> split(m, args.tables);
    split.find_holders(true);
    search.take_split(split.run(args.most_steps));
  }
  return search.plan();
}

/// Splits the batch over the main slots of a placement with replicated experts.
template <int kWords>
__device__ __noinline__ void split_main_slots(const CopyArgs& args, unsigned char* memory) {
  const CopyMemory m = EqualRanks::memory(args, memory);
  ExactSplit<kWords> split(m, args.tables);
  split.find_holders(false);
  split.run(args.most_steps);
  share_main_slots(m, split, m.slot_tokens);
}

/// Without replicated experts, the home sends each copy. `sent` holds 0. Ends in a barrier.
__device__ inline void send_from_homes(const CopyMemory& m) {
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < m.sizes.num_dynamic(); i += kCopyThreads) {
    const int e = m.dynamic_expert[i];
    if (e < 0) continue;
    m.source[i] = m.home[e];
    atomicAdd(&m.sent[m.home[e]], 1);
  }
  __syncthreads();
}

/// Chooses who sends each copy if experts are replicated: in the order of the slots, the rank that
/// has the expert and sends least so far, by one warp whose lanes have ranks. Ends in a barrier.
template <int kWords>
__device__ __forceinline__ void choose_sources_of(const CopyMemory& m, const CopyTables& tables) {
  __syncthreads();
  ExactSplit<kWords> split(m, tables);
  split.find_holders(false);
  const auto lane = static_cast<int>(threadIdx.x);
  if (lane < device::kWarpSize) {
    int sent[kWords] = {};
#pragma unroll 1
    for (int i = 0; i < m.sizes.num_dynamic(); ++i) {
      const int e = m.dynamic_expert[i];
      if (e < 0) continue;
      int least = 0x7FFFFFFF;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        const int rank = lane + 32 * w;
        const bool holds = rank < m.sizes.num_ranks && split.holds(rank, e);
        least = min(least, holds ? sent[w] * kMaxCopyRanks + rank : 0x7FFFFFFF);
      }
      const int source = __reduce_min_sync(~0u, least) % kMaxCopyRanks;
#pragma unroll
      for (int w = 0; w < kWords; ++w) sent[w] += source == lane + 32 * w ? 1 : 0;
      if (lane == 0) m.source[i] = source;
    }
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      if (lane + 32 * w < m.sizes.num_ranks) m.sent[lane + 32 * w] = sent[w];
    }
  }
  __syncthreads();
}
template <int kWords>
__device__ __noinline__ void choose_sources(const CopyArgs& args, unsigned char* memory) {
  const CopyMemory m = EqualRanks::memory(args, memory);
  choose_sources_of<kWords>(m, args.tables);
}

}  // namespace lplb::replicas
