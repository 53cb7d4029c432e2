// SPDX-License-Identifier: MIT
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "lplb/placement.h"
#include "lplb/replicate.h"
#include "support/instances.h"

// usage: lplb_replicate_scale [BATCHES]
// Plans copies for groups of several NVLink domains, and prints the tables of
// docs/notes/2026-11-replicas-at-scale.md: copies that go anywhere (one level), and copies that
// stay inside a domain, after the exact split between domains (two levels). Every plan is verified.
namespace lplb::bench {
namespace {

struct Group {
  Index domains;
  Index ranks;  // of each domain
  Index num_ranks() const { return domains * ranks; }
};

constexpr Group kGroups[] = {{8, 72}, {16, 64}, {64, 16}};
constexpr Index kExperts[] = {256, 512, 1024, 2048};
constexpr Load kTokensPerRank = 4096 * 8;

struct Batches {
  std::vector<Load> popularity;
  Placement placement;
  std::vector<std::vector<Load>> loads;
};

/// The slots of one domain, in any order, onto its ranks: the heaviest first, each to the least
/// loaded rank that has room. `share` [num_experts]: what a replica takes.
std::vector<Index> pack(std::vector<Index> slots, const std::vector<double>& share,
                        Index num_ranks) {
  std::ranges::sort(
      slots, [&](Index a, Index b) { return share[a] != share[b] ? share[a] > share[b] : a < b; });
  const std::size_t room = slots.size() / static_cast<std::size_t>(num_ranks);
  std::vector<std::vector<Index>> rank(static_cast<std::size_t>(num_ranks));
  std::vector<double> load(rank.size(), 0.0);
  for (const Index e : slots) {
    std::size_t best = rank.size();
    for (std::size_t g = 0; g < rank.size(); ++g) {
      if (rank[g].size() < room && (best == rank.size() || load[g] < load[best])) best = g;
    }
    rank[best].push_back(e);
    load[best] += share[e];
  }
  std::vector<Index> packed;
  for (const auto& experts : rank) packed.insert(packed.end(), experts.begin(), experts.end());
  return packed;
}

/// A placement for `popularity`: EPLB with each domain as one rank, and no expert twice in a
/// domain; then the slots of each domain are packed onto its ranks. The number of slots of a rank
/// is the least one that leaves some for replicas.
Placement place(const Group& group, const std::vector<Load>& popularity) {
  const auto experts = static_cast<Index>(popularity.size());
  const Index slots = (experts / group.num_ranks() + 1) * group.num_ranks();
  const std::vector<double> past(popularity.begin(), popularity.end());
  const ExpertMaps maps =
      rebalance_experts(past, 1, experts, slots, 1, 1, group.domains, {.spread = true});
  std::vector<double> share;
  for (std::size_t e = 0; e < past.size(); ++e) share.push_back(past[e] / maps.replica_count[e]);
  std::vector<Index> map;
  const Index each = slots / group.domains;
  for (Index d = 0; d < group.domains; ++d) {
    const auto begin = maps.physical_to_logical.begin() + std::ptrdiff_t{1} * d * each;
    const std::vector<Index> packed = pack({begin, begin + each}, share, group.ranks);
    map.insert(map.end(), packed.begin(), packed.end());
  }
  return make_placement(group.num_ranks(), experts, map);
}

Batches make_batches(const Group& group, Index experts, double sigma, int count) {
  testing::SplitMix64 random(1);
  const Load total = kTokensPerRank * group.num_ranks();
  const std::vector<Load> popularity = testing::hard_popularity(experts, sigma, total, random);
  Batches batches{popularity, place(group, popularity), {}};
  for (int i = 0; i < count; ++i) {
    batches.loads.push_back(testing::hard_batch(popularity, total, random));
  }
  return batches;
}

double processor_us() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

/// Means over the batches.
struct Figures {
  double us = 0;         // processor time of a plan
  double imbalance = 0;  // max / mean rank load
  double copies = 0;
  double busiest = 0;   // copies that the busiest rank sends or receives
  double crossing = 0;  // copies that leave their domain
  double busiest_crossing = 0;
};

/// Copies that leave their domain: in all, and on the busiest rank.
void count_crossing(const Group& group, const Replication& plan, Figures& figures) {
  std::vector<Index> sent(static_cast<std::size_t>(group.num_ranks()), 0), received(sent);
  const std::size_t slots = plan.slot_source.size() / sent.size();
  for (std::size_t i = 0; i < plan.slot_source.size(); ++i) {
    const Index source = plan.slot_source[i];
    const auto target = static_cast<Index>(i / slots);
    if (source < 0 || source / group.ranks == target / group.ranks) continue;
    ++sent[source];
    ++received[target];
    figures.crossing += 1;
  }
  figures.busiest_crossing += std::max(std::ranges::max(sent), std::ranges::max(received));
}

Figures measure(const Group& group, const Batches& batches, const ReplicateOptions& options) {
  Replicator replicator(batches.placement, options);
  Replication plan;
  Figures sum;
  replicator.run(batches.loads[0], plan);  // it allocates its memory
  for (const std::vector<Load>& load : batches.loads) {
    const double start = processor_us();
    replicator.run(load, plan);
    sum.us += processor_us() - start;
    const std::string wrong = verify_replication(batches.placement, load, options, plan);
    if (!wrong.empty()) {
      std::fprintf(stderr, "lplb_replicate_scale: %s\n", wrong.c_str());
      std::exit(1);
    }
    sum.imbalance += imbalance(plan.rank_load);
    sum.copies += plan.copies;
    sum.busiest += std::max(plan.max_sent, plan.max_received);
    count_crossing(group, plan, sum);
  }
  for (double* figure :
       {&sum.us, &sum.imbalance, &sum.copies, &sum.busiest, &sum.crossing, &sum.busiest_crossing}) {
    *figure /= static_cast<double>(batches.loads.size());
  }
  return sum;
}

/// The exact split over a placement that EPLB makes for the ranks, without copies.
double imbalance_without(const Group& group, const Batches& batches) {
  const std::vector<double> past(batches.popularity.begin(), batches.popularity.end());
  const auto experts = static_cast<Index>(past.size());
  const auto slots = static_cast<Index>(batches.placement.physical_to_logical.size());
  const ExpertMaps maps = rebalance_experts(past, 1, experts, slots, 1, 1, group.num_ranks());
  const Placement placement = make_placement(group.num_ranks(), experts, maps.physical_to_logical);
  double sum = 0;
  for (const std::vector<Load>& load : batches.loads) {
    sum += imbalance(solve(placement, load).rank_load);
  }
  return sum / static_cast<double>(batches.loads.size());
}

/// What is measured for a group and a number of experts.
struct Row {
  std::string name;  // the first columns
  double none = 0;   // imbalance without copies
  Figures anywhere, inside, inside_target;
};

Row measure_row(const Group& group, Index experts, double sigma, Index slots, int count) {
  const Batches batches = make_batches(group, experts, sigma, count);
  const Index main = batches.placement.slots_per_rank();
  Row row;
  row.name = "| " + std::to_string(group.domains) + " x " + std::to_string(group.ranks) + " | " +
             std::to_string(experts) + " | " + std::to_string(main) + " + " +
             std::to_string(slots) + " |";
  row.none = imbalance_without(group, batches);
  if ((main + slots) * group.num_ranks() > kMaxPhysical) return row;
  row.anywhere = measure(group, batches, {.dynamic_slots = slots});
  row.inside = measure(group, batches, {.dynamic_slots = slots, .num_domains = group.domains});
  row.inside_target = measure(
      group, batches, {.dynamic_slots = slots, .target = 1.1, .num_domains = group.domains});
  return row;
}

void print_head(const char* text, const char* columns, int count) {
  std::printf("\n%s\n\n| domains x ranks | experts | M + S | %s |\n|---|---|---|", text, columns);
  for (int i = 0; i < count; ++i) std::printf("---|");
  std::printf("\n");
}

void print_tables(const char* kind, double sigma, Index slots, int count) {
  std::vector<Row> rows;
  for (const Group& group : kGroups) {
    for (const Index experts : kExperts) {
      rows.push_back(measure_row(group, experts, sigma, slots, count));
    }
  }
  std::printf("\n## %s loads, S = %d, means of %d batches\n", kind, slots, count);
  std::printf("A row of zeros: the group would have more than %d slots.\n", kMaxPhysical);
  print_head("Max / mean rank load:", "no copies | anywhere | inside | inside, target 1.1", 4);
  for (const Row& r : rows) {
    std::printf("%s %.3f | %.4f | %.4f | %.4f |\n", r.name.c_str(), r.none, r.anywhere.imbalance,
                r.inside.imbalance, r.inside_target.imbalance);
  }
  print_head("Copies of a batch, and in brackets those of the busiest rank:",
             "anywhere | of these between domains | inside | inside, target 1.1", 4);
  for (const Row& r : rows) {
    std::printf("%s %.0f (%.1f) | %.0f (%.1f) | %.0f (%.1f) | %.0f (%.1f) |\n", r.name.c_str(),
                r.anywhere.copies, r.anywhere.busiest, r.anywhere.crossing,
                r.anywhere.busiest_crossing, r.inside.copies, r.inside.busiest,
                r.inside_target.copies, r.inside_target.busiest);
  }
  print_head("Processor time of a plan, us:", "anywhere | inside | inside, target 1.1", 3);
  for (const Row& r : rows) {
    std::printf("%s %.0f | %.0f | %.0f |\n", r.name.c_str(), r.anywhere.us, r.inside.us,
                r.inside_target.us);
  }
}

}  // namespace
}  // namespace lplb::bench

int main(int argc, char** argv) {
  const int count = argc > 1 ? std::atoi(argv[1]) : 50;
  if (count < 1 || argc > 2) {
    std::fprintf(stderr, "lplb_replicate_scale: expected a number of batches, >= 1\n");
    return 2;
  }
  for (const lplb::Index slots : {1, 2}) {
    lplb::bench::print_tables("mild", 0.5, slots, count);
    lplb::bench::print_tables("skew", 1.2, slots, count);
  }
}
