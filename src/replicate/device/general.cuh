// SPDX-License-Identifier: MIT
#pragma once

#include "replicate/copy_cost.h"
#include "replicate/device/copy_block.cuh"
#include "replicate/device/search.cuh"

// The general form of a choice: Replicator::State step by step, for any speeds and for several
// domains, which are planned one after another. It is simple rather than quick.
namespace lplb::replicas {

using GeneralPlan = BasicCopyPlan<solvers::DeviceLevel>;

/// Domain::plan() once the batch has begun, for a domain with `total` tokens whose arrays hold no
/// copies. `most`: the largest load without copies. Returns the plan, and the bound as it is then;
/// `outside` is not 0 if this domain has raised it.
__device__ inline __noinline__ GeneralPlan plan_domain(const CopyArgs& args, unsigned char* memory,
                                                       int domain, int total,
                                                       solvers::DeviceLevel start,
                                                       solvers::DeviceLevel most,
                                                       solvers::DeviceLevel bound) {
  using Search = CopySearch<kGeneralWords, DomainRanks>;
  const DomainRanks ranks(args, memory, domain, total);
  const CopyMemory m = ranks.memory(args, memory);
  Search search(args, memory, ranks);
  const GeneralPlan plan{most, 0, bound, 0, most};
  if (!ranks.above(most, start)) {
    return ranks.above(most, bound) ? search.raise_bound(plan) : plan;
  }
  auto* const results = reinterpret_cast<Search::Attempt*>(m.results);
  if (threadIdx.x < device::kWarpSize) {
    const Search::Attempt first = fill_domain(args, memory, domain, total, 0, start, -1, true);
    if (threadIdx.x == 0) results[0] = first;
  }
  __syncthreads();
  if (search.run(start, results[0], plan)) {
    search.take_split(run_general_split(args, memory, domain, total, true));
  }
  return search.plan();
}

/// All threads of the block call its functions.
class GeneralChoice : public CopyBlock {
 public:
  using Level = solvers::DeviceLevel;

  /// The image and `want` must be there.
  __device__ GeneralChoice(const CopyArgs& args, unsigned char* memory)
      : CopyBlock(args, memory), general_(args, memory), ranks_(general_.ranks) {
    m_.open();
  }

  __device__ const GeneralMemory& general() const { return general_; }

  /// Replicator::State::run(): plans what is in `want`, whose sum is at most 2^31 - 1. The arrays
  /// hold what the plan takes. Ends in a barrier.
  __device__ GeneralPlan run() {
    begin();
    return args_.num_candidates > 0 ? plan_cheapest() : plan(level_of_target(0));
  }

 private:
  __device__ int num_domains() const { return args_.sizes.num_domains; }
  __device__ int domain_ranks() const { return m_.sizes.num_ranks / num_domains(); }
  __device__ bool is_live(int domain) const { return general_.domains[domain].num_live > 0; }
  __device__ bool above(Level a, Level b) const { return ranks_.compare(a, b) > 0; }

  /// The sum of value(i) for i from `begin` to `end`, on all threads.
  template <class Value>
  __device__ int sum_of(int begin, int end, Value value) const {
    int sum = 0;
#pragma unroll 1
    for (int i = begin + lane_; i < end; i += device::kWarpSize) sum += value(i);
    return __reduce_add_sync(~0u, sum);
  }

  /// Gives each domain its part of the batch, and splits that over its main slots.
  __device__ void begin() {
    const int num_ranks = m_.sizes.num_ranks;
    for_each(m_.sizes.num_main(), [&](int slot) { m_.slot_tokens[slot] = 0; });  // of dead domains
    total_ = sum_of(0, m_.sizes.num_logical, [&](int e) { return m_.want[e]; });
    if (num_domains() > 1) {
      split_between();
    } else {
      for_each(num_ranks, [&](int g) { general_.first_proof[g] = m_.is_alive(g) ? 1 : 0; });
      __syncthreads();
    }
#pragma unroll 1
    for (int d = 0; d < num_domains(); ++d) {
      if (is_live(d)) begin_domain(d);
    }
    if (num_domains() == 1) without_ = most_of(0);
    const int confined = num_domains() > 1 ? confined_ : total_;
    first_bound_ = ranks_.raise_to_fit(0, num_ranks, confined,
                                       [&](int g) { return general_.first_proof[g] != 0; });
  }

  /// BetweenDomains: the splits of the whole batch over ranks, and over domains as ranks. Ends in a
  /// barrier.
  __device__ void split_between() {
    without_ = run_general_split(args_, memory_, kGroup, total_, false);
    share_main_slots(m_, ExactSplit<kGeneralWords>(m_, args_.tables), general_.whole);

    run_general_split(args_, memory_, kDomainsAsRanks, total_, false);
    const CopyMemory merged = memory_of_split(args_, memory_, kDomainsAsRanks);
    const ExactSplit<kGeneralWords> split(merged, args_.tables);
    // The first slot of an expert in a domain brings all of the domain's part.
    const int slots = merged.sizes.main_slots;
    for_each(m_.sizes.num_main(), [&](int slot) {
      const int e = m_.slot_expert[slot];
      int first = slot / slots * slots;
      while (m_.slot_expert[first] != e) ++first;
      general_.between[slot] =
          e == kNoExpert || first < slot ? 0 : split.share(e, slot / slots, 0, 1);
    });

    // BetweenDomains::bound(). `part` says for a while which experts only the proof's domains have.
    for_each(m_.sizes.num_logical, [&](int e) { general_.part[e] = 1; });
    __syncthreads();
    for_each(m_.sizes.num_main(), [&](int slot) {
      const int e = m_.slot_expert[slot];
      if (e != kNoExpert && !split.proves(slot / slots)) atomicMin(&general_.part[e], 0);
    });
    for_each(m_.sizes.num_ranks, [&](int g) {
      general_.first_proof[g] = m_.is_alive(g) && split.proves(g / domain_ranks()) ? 1 : 0;
    });
    __syncthreads();
    confined_ = sum_of(0, m_.sizes.num_logical,
                       [&](int e) { return general_.part[e] != 0 ? m_.want[e] : 0; });
    __syncthreads();
  }

  /// Makes `part` that of a domain. Ends in a barrier.
  __device__ void take_part(int domain) const {
    if (num_domains() == 1) return;
    __syncthreads();  // all have read the part before
    for_each(m_.sizes.num_logical, [&](int e) { general_.part[e] = 0; });
    __syncthreads();
    const int slots = domain_ranks() * m_.sizes.main_slots;
    for_each(slots, [&](int i) {
      const int slot = domain * slots + i;
      // NOTE: one slot of an expert brings tokens, so nobody adds to the same number.
      if (general_.between[slot] > 0) {
        general_.part[m_.slot_expert[slot]] = general_.between[slot];
      }
    });
    __syncthreads();
  }

  __device__ int total_of(int domain) const {
    if (num_domains() == 1) return total_;
    const int slots = domain_ranks() * m_.sizes.main_slots;
    return sum_of(domain * slots, (domain + 1) * slots,
                  [&](int slot) { return general_.between[slot]; });
  }

  __device__ CopyMemory memory_of(int domain) const {
    return memory_of_split(args_, memory_, domain);
  }

  /// Domain::begin(). Ends in a barrier.
  __device__ void begin_domain(int domain) const {
    take_part(domain);
    const CopyMemory m = memory_of(domain);
    if (m.replicated) {
      run_general_split(args_, memory_, domain, total_of(domain), false);
      share_main_slots(m, ExactSplit<kGeneralWords>(m, args_.tables), m.slot_tokens);
    } else {
      give_to_homes(m);
    }
    measure_ranks(m);
  }

  /// The largest load of a domain without copies.
  __device__ Level most_of(int domain) const {
    const int first = domain * domain_ranks();
    return ranks_.highest(first, first + domain_ranks(), [&](int g) { return m_.rank_load[g]; });
  }

  /// Replicator::State::level_of().
  __device__ Level level_of_target(int which) const {
    const CopyGroup& group = *general_.group;
    if (ranks_.is_uniform) {
      const int millionths = which == 0 ? args_.target_millionths : args_.targets[which];
      return {level_of(*m_.header, millionths, total_), group.fastest};
    }
    const double tokens = args_.exact_targets[which] * total_ * group.share_of_fastest;
    return {tokens >= total_ ? total_ : static_cast<int>(tokens), group.fastest};
  }

  /// Replicator::State::plan(). Ends in a barrier.
  __device__ __noinline__ GeneralPlan plan(Level start) const {
    GeneralPlan plan{{0, general_.group->fastest}, 0, first_bound_, 0, without_};
    if (above(plan.bound, start)) start = plan.bound;
    __syncthreads();  // all have read what the plan before has left
    for_each(m_.sizes.num_ranks, [&](int g) {
      general_.proof[g] = general_.first_proof[g];
      m_.sent[g] = 0;
    });
    m_.clear_plan(thread_, kCopyThreads);
    __syncthreads();
    const bool may_need_none = num_domains() > 1;
    bool needs_none = may_need_none && !above(without_, start);
    if (!needs_none) {
      plan_domains(start, plan);
      needs_none = may_need_none && !above(without_, plan.max);
    }
    if (needs_none) {
      take_whole();
      plan.copies = 0;
    } else {
      choose_all_sources();
    }
    plan.max = ranks_.highest(0, m_.sizes.num_ranks, [&](int g) { return planned_load(m_, g); });
    return plan;
  }

  __device__ void plan_domains(Level start, GeneralPlan& plan) const {
    const int count = domain_ranks();
#pragma unroll 1
    for (int d = 0; d < num_domains(); ++d) {
      if (!is_live(d)) continue;
      // No plan of the domain is below its mean.
      const Level mean = ranks_.raise_to_fit(d * count, (d + 1) * count, total_of(d),
                                             [&](int g) { return m_.is_alive(g); });
      if (above(mean, start)) start = mean;
    }
#pragma unroll 1
    for (int d = 0; d < num_domains(); ++d) {
      if (!is_live(d)) continue;
      take_part(d);
      const GeneralPlan its =
          plan_domain(args_, memory_, d, total_of(d), start, most_of(d), plan.bound);
      if (its.outside > 0) {
        for_each(m_.sizes.num_ranks, [&](int g) {
          const bool proves =
              g / count == d && m_.is_alive(g) && m_.order_of_rank[g] >= its.outside;
          general_.proof[g] = proves ? 1 : 0;
        });
      }
      plan.bound = its.bound;
      plan.copies += its.copies;
      if (above(its.max, plan.max)) plan.max = its.max;
      if (above(plan.max, start)) start = plan.max;
      __syncthreads();
    }
  }

  /// Takes the best split without copies. Ends in a barrier.
  __device__ void take_whole() const {
    __syncthreads();
    m_.clear_plan(thread_, kCopyThreads);
    __syncthreads();
    for_each(m_.sizes.num_main(), [&](int slot) { m_.plan_main[slot] = general_.whole[slot]; });
    __syncthreads();
  }

  /// Ends in a barrier.
  __device__ void choose_all_sources() const {
#pragma unroll 1
    for (int d = 0; d < num_domains(); ++d) {
      if (!is_live(d)) continue;
      const CopyMemory m = memory_of(d);
      choose_sources_of<kGeneralWords>(m, args_.tables);
      for_each(m.sizes.num_dynamic(), [&](int i) {
        if (m.dynamic_expert[i] >= 0) m.source[i] += d * domain_ranks();
      });
      __syncthreads();
    }
  }

  __device__ double price(const GeneralPlan& plan) const {
    int most = 0;
#pragma unroll 1
    for (int g = lane_; g < m_.sizes.num_ranks; g += device::kWarpSize) {
      most = max(most, max(m_.sent[g], m_.received(g)));
    }
    return batch_us(args_.cost, ranks_.price(plan.max), __reduce_max_sync(~0u, most));
  }

  /// Replicator::State::plan_cheapest(). The arrays hold one plan, so the cheapest is made again if
  /// it was not the last one.
  __device__ GeneralPlan plan_cheapest() const {
    const Level no_copies{total_, general_.group->slowest};
    GeneralPlan best = plan(no_copies);
    double least = price(best);
    const double bound = batch_us(args_.cost, ranks_.price(first_bound_), 1);
    Level best_level = no_copies;
    bool is_last = true;
#pragma unroll 1
    for (int i = 0; i < args_.num_candidates && least > bound; ++i) {
      const Level level = level_of_target(i);
      const GeneralPlan its = plan(level);
      const double us = price(its);
      is_last = us < least || (us == least && its.copies < best.copies);
      if (is_last) {
        least = us;
        best = its;
        best_level = level;
      }
      if (its.copies == 0) break;
    }
    return is_last ? best : plan(best_level);
  }

  const GeneralMemory general_;
  const solvers::RankSpeeds ranks_;
  int total_ = 0;
  int confined_ = 0;     ///< several domains: tokens that the proof's domains must carry
  Level first_bound_{};  ///< what needs no search
  Level without_{};      ///< the largest load of the best split without copies
};

/// A batch by itself in the general form: reads it, plans it and writes the results.
class GeneralBatch : public CopyBlock {
 public:
  using CopyBlock::CopyBlock;

  __device__ void run() {
    bring_image();
    if (!read_batch()) {
      refuse();
      return;
    }
    GeneralChoice choice(args_, memory_);
    const GeneralPlan its = choice.run();
    const solvers::RankSpeeds& ranks = choice.general().ranks;
    const bool is_optimal = ranks.compare(its.max, its.bound) <= 0;
    const solvers::DeviceLevel bound = is_optimal ? its.max : its.bound;
    const auto rank_of = [&](solvers::DeviceLevel level) {
      return ranks.is_uniform ? -1 : level.rank;
    };
    write({is_optimal ? ReplicationStatus::kOptimal : ReplicationStatus::kBounded, its.max.tokens,
           bound.tokens, its.copies, 0, 0, its.without.tokens, rank_of(its.max), rank_of(bound),
           rank_of(its.without)},
          [&](int g) { return choice.general().proof[g] != 0; });
  }
};

}  // namespace lplb::replicas
