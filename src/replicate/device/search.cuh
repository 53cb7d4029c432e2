// SPDX-License-Identifier: MIT
#pragma once

#include "replicate/device/exact_split.cuh"
#include "replicate/device/fill.cuh"
#include "replicate/device/slot_bound.cuh"

// What follows if the first attempt does not reach the bound: Domain::plan() from there on. The
// CPU tries one level after another, the device one in each warp; both count the same attempts in
// the same order.
namespace lplb::replicas {

/// A plan on its way: the same on all threads.
struct CopyPlan {
  int max;
  int copies;
  int bound;    ///< no plan is below it
  int outside;  ///< the ranks that prove it are those with order_of_rank >= outside
  int without;  ///< the largest load without copies
};

// As in domain.cc.
inline constexpr int kMaxTries = 12;
inline constexpr int kMaxDetours = 16;
inline constexpr int kResolution = 1 << 13;

/// All threads of the block call its functions.
template <int kWords>
class CopySearch {
 public:
  __device__ CopySearch(const CopyArgs& args, unsigned char* memory)
      : args_(args),
        memory_(memory),
        m_(memory, args.sizes, args.layout),
        thread_(threadIdx.x),
        warp_(thread_ / device::kWarpSize) {
    m_.open();
  }

  /// Continues after the attempt `first` for level `start`, which the arrays of the plan hold.
  /// `plan` describes the batch without copies. Ends in a barrier.
  __device__ CopyPlan run(int start, Attempt first, CopyPlan plan) {
    plan_ = plan;
    kept_ = {start, -1};
    count(first, start, -1);
    bool is_raised = false;
    if (first.closed == 0) {
      plan_ = raise_bound(plan_);
      is_raised = true;
      const bool is_higher = plan_.bound > start;
      const int least = is_higher ? plan_.bound : start;
      if (!try_detours(least, is_higher)) search(least);
    }
    if (!(best_ == kept_)) keep(best_);
    if (plan_.max <= plan_.bound) return plan_;
    if (!is_raised) plan_ = raise_bound(plan_);
    if (plan_.copies > 0 && plan_.max > plan_.bound) split_exactly();
    return plan_;
  }

  /// Raises the bound of `plan` by what the number of slots proves. Ends in a barrier.
  __device__ CopyPlan raise_bound(CopyPlan plan) const {
    int outside;
    const int level = bound_by_slots(m_, outside);
    if (level <= plan.bound) return plan;
    plan.bound = level;
    plan.outside = outside;
    return plan;
  }

 private:
  /// How an attempt was made. Level -1: no copies.
  struct How {
    int level;
    int detour;
    __device__ bool operator==(const How& other) const {
      return level == other.level && detour == other.detour;
    }
  };

  /// Makes an attempt the plan if it is better.
  __device__ void count(const Attempt& attempt, int level, int detour) {
    if (attempt.max > plan_.max) return;
    if (attempt.max == plan_.max && attempt.copies >= plan_.copies) return;
    plan_.max = attempt.max;
    plan_.copies = attempt.copies;
    best_ = {level, detour};
  }

  /// Each warp for which `takes_part` holds makes an attempt; `results` has them afterwards.
  __device__ void attempt(bool takes_part, int level, int detour) {
    __syncthreads();  // all have read the results before
    if (takes_part) {
      const Attempt result =
          fill_in_warp<kWords>(args_, memory_, warp_, level, detour, false, false);
      if (thread_ % device::kWarpSize == 0) m_.results[warp_] = result;
    }
    __syncthreads();
  }

  /// Tries `level`, if it is new, and then detours, until one closes.
  __device__ bool try_detours(int level, bool is_new) {
    const int attempts = args_.layout.num_attempts;
    const int before = is_new ? 1 : 0;
    const int end = min(kMaxDetours, m_.sizes.num_dynamic()) + before;
#pragma unroll 1
    for (int first = 0; first < end; first += attempts) {
      attempt(warp_ < attempts && first + warp_ < end, level, first + warp_ - before);
#pragma unroll 1
      for (int i = 0; i < min(attempts, end - first); ++i) {
        const Attempt result = m_.results[i];
        count(result, level, first + i - before);
        if (result.closed != 0) return true;
      }
    }
    return false;
  }

  /// Where Domain::search() is: the next level that it tries is middle().
  struct Interval {
    int low, high, tries;
    __device__ bool goes_on() const {
      return tries < kMaxTries && high - low > low / kResolution + 1;
    }
    __device__ int middle() const { return low + max(1, (high - low) / (tries < 2 ? 8 : 2)); }
    __device__ void step(bool closed) {
      const int level = middle();
      ++tries;
      (closed ? high : low) = level;
    }
  };

  /// Domain::search(). Which level it tries depends on which of the levels before have closed: a
  /// binary tree, numbered as a heap. Each round tries all levels of a few steps.
  __device__ void search(int start) {
    int depth = 1;
    while ((2 << depth) - 1 <= args_.layout.num_attempts) ++depth;
    Interval now{start, plan_.max, 0};
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
      attempt(takes_part, mine.middle(), -1);
      int at = 1;
#pragma unroll 1
      for (int i = 0; i < depth && now.goes_on(); ++i) {
        const Attempt result = m_.results[at - 1];
        count(result, now.middle(), -1);
        now.step(result.closed != 0);
        at = 2 * at + (result.closed != 0 ? 1 : 0);
      }
    }
    // The best attempt may not have closed. Some of its copies are in vain then.
    const int level = plan_.max;
    keep({level, -1});
    count(m_.results[0], level, -1);
  }

  /// Makes the arrays of the plan those of an attempt, of which `results` has the first then. Ends
  /// in a barrier.
  __device__ void keep(How how) {
    __syncthreads();
    if (how.level < 0) {
      m_.clear_plan(thread_, kCopyThreads);
    } else if (warp_ == 0) {
      const Attempt result =
          fill_in_warp<kWords>(args_, memory_, 0, how.level, how.detour, true, false);
      if (thread_ == 0) m_.results[0] = result;
    }
    kept_ = how;
    __syncthreads();
  }

  template <class Body>
  __device__ void for_each(int count, Body body) const {
#pragma unroll 1
    for (int i = thread_; i < count; i += kCopyThreads) body(i);
  }

  /// Domain::split_exactly().
  __device__ void split_exactly() {
    __syncthreads();  // attempts have used the same memory
    ExactSplit<kWords> split(m_, args_.tables);
    split.find_holders(true);
    const int max = split.run(args_.most_steps);
    if (max >= plan_.max) return;
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
  CopyMemory m_;
  const int thread_;
  const int warp_;
  CopyPlan plan_{};
  How best_{-1, -1};
  How kept_{-1, -1};  // what the arrays of the plan hold
};

/// CopySearch::run() as a function of its own, so that the plans of most batches do not carry its
/// registers.
template <int kWords>
__device__ __noinline__ CopyPlan search_copies(const CopyArgs& args, unsigned char* memory,
                                               int start, Attempt first, CopyPlan plan) {
  return CopySearch<kWords>(args, memory).run(start, first, plan);
}

/// Raises the bound of a batch that needs no copies for its target.
template <int kWords>
__device__ __noinline__ CopyPlan raise_bound(const CopyArgs& args, unsigned char* memory,
                                             CopyPlan plan) {
  CopySearch<kWords> search(args, memory);
  return search.raise_bound(plan);
}

/// Splits the batch over the main slots of a placement with replicated experts.
template <int kWords>
__device__ __noinline__ void split_main_slots(const CopyArgs& args, unsigned char* memory) {
  CopyMemory m(memory, args.sizes, args.layout);
  m.open();
  ExactSplit<kWords> split(m, args.tables);
  split.find_holders(false);
  split.run(args.most_steps);
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
    m.slot_tokens[slot] = e == kNoExpert ? 0 : split.share(e, slot / slots, index, count);
  }
  __syncthreads();
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
__device__ __noinline__ void choose_sources(const CopyArgs& args, unsigned char* memory) {
  CopyMemory m(memory, args.sizes, args.layout);
  m.open();
  __syncthreads();
  ExactSplit<kWords> split(m, args.tables);
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

}  // namespace lplb::replicas
