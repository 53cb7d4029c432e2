// SPDX-License-Identifier: MIT
#pragma once

#include "replicate/device/memory.cuh"
#include "solve/device/speed_bound.cuh"

// What the steps of a choice must know about the ranks: how levels are compared, and how many
// tokens a rank carries at one. They are templates of one of two answers.
namespace lplb::replicas {

/// The quick form: all ranks of the group, with one speed.
struct EqualRanks {
  static constexpr bool kAreEqual = true;
  using Level = int;

  __device__ static CopyMemory memory(const CopyArgs& args, unsigned char* given) {
    CopyMemory m(given, args.sizes, args.layout);
    m.open();
    return m;
  }
  __device__ static bool above(int a, int b) { return a > b; }
  __device__ static int capacity(int, int level) { return level; }
  /// A level as a number of tokens of the fastest rank, and back.
  __device__ static int tokens_of(int level) { return level; }
  __device__ static int level_of(int tokens) { return tokens; }
};

/// The arrays of the general form, in a block's shared memory.
struct GeneralMemory {
  const CopyGroup* group;
  const CopyDomain* domains;
  solvers::RankSpeeds ranks;   ///< of the group
  solvers::RankSpeeds merged;  ///< of the domains as ranks
  solvers::SpeedScratch scratch;
  int *part, *between, *whole, *proof, *first_proof;
  solvers::DeviceLevel* levels;

  __device__ GeneralMemory(const CopyArgs& args, unsigned char* given) {
    const GeneralLayout& l = args.layout.general;
    unsigned char* const memory = shared_memory(given) + args.layout.offset;
    const auto ints = [memory](int offset) { return reinterpret_cast<int*>(memory + offset); };
    group = reinterpret_cast<const CopyGroup*>(memory + l.group);
    domains = reinterpret_cast<const CopyDomain*>(memory + l.domains);
    ranks = {reinterpret_cast<const double*>(memory + l.speed),
             reinterpret_cast<const ExactSpeed*>(memory + l.exact), group->is_uniform != 0};
    merged = ranks.from(args.sizes.num_ranks, group->domains_are_uniform != 0);
    scratch = {ints(l.capacity), ints(l.other), ints(l.share),
               reinterpret_cast<std::uint16_t*>(memory + l.order)};
    part = ints(l.part);
    between = ints(l.between);
    whole = ints(l.whole);
    proof = ints(l.proof);
    first_proof = ints(l.first_proof);
    levels = reinterpret_cast<solvers::DeviceLevel*>(memory + l.levels);
  }
};

/// The general form: the ranks of one domain. Levels have ranks of the group; otherwise ranks count
/// within the domain.
struct DomainRanks {
  static constexpr bool kAreEqual = false;
  using Level = solvers::DeviceLevel;

  int domain;
  int total;  ///< the tokens of the domain
  int first;  ///< rank of the group
  int count;
  int fastest;
  solvers::RankSpeeds group;
  const std::uint16_t* group_slots;  ///< slot_expert of the group
  int num_group_slots;
  solvers::DeviceLevel* levels;

  __device__ DomainRanks(const CopyArgs& args, unsigned char* given, int d, int tokens)
      : domain(d), total(tokens) {
    const GeneralMemory general(args, given);
    count = args.sizes.num_ranks / args.sizes.num_domains;
    first = d * count;
    fastest = general.domains[d].fastest;
    group = general.ranks;
    group_slots = CopyMemory(given, args.sizes, args.layout).slot_expert;
    num_group_slots = args.sizes.num_main();
    levels = general.levels;
  }

  __device__ CopyMemory memory(const CopyArgs& args, unsigned char* given) const {
    const GeneralMemory general(args, given);
    CopyMemory m = CopyMemory(given, args.sizes, args.layout).of_ranks(first, count);
    if (args.sizes.num_domains > 1) m.want = general.part;
    m.num_live = general.domains[domain].num_live;
    m.replicated = general.domains[domain].replicated != 0;
    return m;
  }
  __device__ bool above(Level a, Level b) const { return group.compare(a, b) > 0; }
  __device__ int capacity(int g, Level level) const {
    return group.capacity(first + g, level, total);
  }
  __device__ int tokens_of(Level level) const { return group.capacity(fastest, level, total); }
  __device__ Level level_of(int tokens) const { return {tokens, fastest}; }
};

}  // namespace lplb::replicas
