// SPDX-License-Identifier: MIT
#include <algorithm>
#include <functional>
#include <limits>

#include "core/cost.h"
#include "core/format.h"
#include "core/wide.h"
#include "lplb/replicate.h"

namespace lplb {
namespace {

/// Checks one result; each check returns what is wrong, or an empty string.
class Checker {
 public:
  Checker(const Placement& placement, std::span<const Load> load, const ReplicateOptions& options,
          const Replication& result)
      : p_(placement), load_(load), options_(options), r_(result), dynamic_(options.dynamic_slots) {
    cost_.assign(p_.num_ranks, p_.rank_speed);
  }

  std::string run() const {
    for (const auto check :
         {&Checker::sizes, &Checker::copies, &Checker::tokens, &Checker::proof, &Checker::levels}) {
      std::string problem = (this->*check)();
      if (!problem.empty()) return problem;
    }
    return "";
  }

 private:
  Index domain_of(Index rank) const { return rank / (p_.num_ranks / options_.num_domains); }
  Index main_expert(Index rank, Index i) const {
    return p_.physical_to_logical[rank * p_.slots_per_rank() + i];
  }
  bool has_main(Index rank, Index e) const {
    const auto first = p_.physical_to_logical.begin() + rank * p_.slots_per_rank();
    return p_.alive(rank) &&
           std::find(first, first + p_.slots_per_rank(), e) != first + p_.slots_per_rank();
  }

  std::string sizes() const {
    const auto ranks = static_cast<std::size_t>(p_.num_ranks);
    const auto dynamic = ranks * static_cast<std::size_t>(std::max(dynamic_, 0));
    const bool fits = dynamic_ >= 1 && options_.num_domains >= 1 &&
                      p_.num_ranks % options_.num_domains == 0 &&
                      load_.size() == static_cast<std::size_t>(p_.num_logical_experts) &&
                      r_.slot_expert.size() == dynamic && r_.slot_source.size() == dynamic &&
                      r_.rank_load.size() == ranks &&
                      r_.physical_load.size() == p_.physical_to_logical.size() + dynamic;
    if (!fits) return "load, options and result are not of the placement's size";
    for (const Level level : {r_.max_level, r_.bound_level}) {
      if (level.tokens < 0 || level.rank < 0 || level.rank >= p_.num_ranks) {
        return formatted("level of {} tokens on rank {}", level.tokens, level.rank);
      }
    }
    return "";
  }

  std::string copies() const {
    std::vector<Index> sent(static_cast<std::size_t>(p_.num_ranks), 0), received = sent;
    Index copies = 0;
    for (Index i = 0; i < p_.num_ranks * dynamic_; ++i) {
      const Index rank = i / dynamic_;
      const Index e = r_.slot_expert[i];
      const Index source = r_.slot_source[i];
      const Load tokens = r_.physical_load[rank * (p_.slots_per_rank() + dynamic_) +
                                           p_.slots_per_rank() + i % dynamic_];
      const std::string name = formatted("dynamic slot {} of rank {}", i % dynamic_, rank);
      if (e == -1) {
        if (source != -1) return formatted("{} is unused, and has source {}", name, source);
        if (tokens != 0) return formatted("{} is unused, and takes {} tokens", name, tokens);
        continue;
      }
      if (e < 0 || e >= p_.num_logical_experts) return formatted("{} has expert {}", name, e);
      if (!p_.alive(rank)) return formatted("{} has expert {}, but the rank is dead", name, e);
      if (has_main(rank, e)) return formatted("{} has expert {}, as has a main slot", name, e);
      for (Index j = rank * dynamic_; j < i; ++j) {
        if (r_.slot_expert[j] == e) return formatted("{} has expert {} again", name, e);
        if (r_.slot_expert[j] < 0) return formatted("{} is in use after an unused one", name);
      }
      if (tokens < options_.min_tokens) {
        return formatted("{} takes {} tokens, min_tokens is {}", name, tokens, options_.min_tokens);
      }
      if (source < 0 || source >= p_.num_ranks || !has_main(source, e)) {
        return formatted("{} has expert {} from rank {}, which lacks it", name, e, source);
      }
      if (domain_of(source) != domain_of(rank)) {
        return formatted("{} has expert {} from rank {} of another domain", name, e, source);
      }
      ++sent[source];
      ++received[rank];
      ++copies;
    }
    const Index max_sent = *std::max_element(sent.begin(), sent.end());
    const Index max_received = *std::max_element(received.begin(), received.end());
    if (copies == r_.copies && max_sent == r_.max_sent && max_received == r_.max_received)
      return "";
    return formatted(
        "copies, max_sent and max_received are {}, {} and {}, the slots say {}, {} and {}",
        r_.copies, r_.max_sent, r_.max_received, copies, max_sent, max_received);
  }

  std::string tokens() const {
    std::vector<Int128> taken(load_.size(), 0);
    std::vector<Int128> carried(static_cast<std::size_t>(p_.num_ranks), 0);
    const Index main = p_.slots_per_rank();
    for (Index slot = 0; slot < static_cast<Index>(r_.physical_load.size()); ++slot) {
      const Index rank = slot / (main + dynamic_);
      const Index i = slot % (main + dynamic_);
      const Load tokens = r_.physical_load[slot];
      if (tokens < 0) return formatted("slot {} takes {} tokens", slot, tokens);
      if (tokens == 0) continue;
      if (!p_.alive(rank))
        return formatted("slot {} on dead rank {} takes {} tokens", slot, rank, tokens);
      taken[i < main ? main_expert(rank, i) : r_.slot_expert[rank * dynamic_ + i - main]] += tokens;
      carried[rank] += tokens;
    }
    for (std::size_t e = 0; e < load_.size(); ++e) {
      if (taken[e] != load_[e]) {
        return formatted("expert {} has load {}, its slots take {}", e, load_[e],
                         static_cast<Load>(taken[e]));
      }
    }
    for (Index g = 0; g < p_.num_ranks; ++g) {
      if (carried[g] != r_.rank_load[g]) {
        return formatted("rank {} carries {}, rank_load says {}", g, static_cast<Load>(carried[g]),
                         r_.rank_load[g]);
      }
    }
    return "";
  }

  /// Checks that bottleneck_ranks proves the bound. The other live ranks, A, can take what is in
  /// their main slots, and in each domain the heaviest of its other experts, one for each dynamic
  /// slot of A there. The rest is for bottleneck_ranks, and is more than they can take below the
  /// bound.
  std::string proof() const {
    std::vector<char> inside(static_cast<std::size_t>(p_.num_ranks), 0);
    Int128 room = 0;
    for (const Index g : r_.bottleneck_ranks) {
      if (g < 0 || g >= p_.num_ranks || inside[g] != 0 || !p_.alive(g)) {
        return formatted("bottleneck_ranks: {} is no live rank or stands twice", g);
      }
      inside[g] = 1;
      room += cost_.below(g, r_.bound_level, std::numeric_limits<Load>::max());
    }
    Int128 rest = 0;
    std::vector<Load> fetched;
    for (Index d = -1; d < options_.num_domains; ++d) {
      Index slots = 0;
      for (Index g = 0; g < p_.num_ranks; ++g) {
        if (d == domain_of(g) && p_.alive(g) && inside[g] == 0) slots += dynamic_;
      }
      fetched.clear();
      for (Index e = 0; e < p_.num_logical_experts; ++e) {
        bool here = false, in_a = false;
        for (const Index slot : p_.replicas(e)) {
          const Index g = p_.rank_of(slot);
          if (!p_.alive(g)) continue;
          here = here || domain_of(g) == d;
          in_a = in_a || inside[g] == 0;
        }
        if (in_a) continue;
        if (d < 0) rest += load_[e];  // only bottleneck_ranks have it
        if (here) fetched.push_back(load_[e]);
      }
      std::sort(fetched.begin(), fetched.end(), std::greater<>());
      for (std::size_t i = 0; i < fetched.size() && slots > 0; ++i, --slots) rest -= fetched[i];
    }
    if (room < rest) return "";
    return formatted("bottleneck_ranks can take {} tokens below the bound, {} are left for them",
                     static_cast<Load>(room), static_cast<Load>(rest));
  }

  std::string levels() const {
    bool met = false;
    for (Index g = 0; g < p_.num_ranks; ++g) {
      const int order = cost_.compare({r_.rank_load[g], g}, r_.max_level);
      if (order > 0) return formatted("rank {} costs more than max_load", g);
      met = met || order == 0;
    }
    if (!met) return "no rank costs max_load";
    if (r_.max_load != cost_.price(r_.max_level)) return "max_load is not the price of its level";
    const int order = cost_.compare(r_.bound_level, r_.max_level);
    if (order > 0) return "lower_bound is above max_load";
    if ((order == 0) != (r_.status == SolveStatus::kOptimal)) {
      return "status does not say whether lower_bound equals max_load";
    }
    const double bound = order == 0 ? r_.max_load : cost_.price(r_.bound_level);
    return r_.lower_bound == bound ? "" : "lower_bound is not the price of its level";
  }

  const Placement& p_;
  std::span<const Load> load_;
  const ReplicateOptions& options_;
  const Replication& r_;
  Index dynamic_;
  RankCost cost_;
};

}  // namespace

std::string verify_replication(const Placement& placement, std::span<const Load> load,
                               const ReplicateOptions& options, const Replication& replication) {
  return Checker(placement, load, options, replication).run();
}

}  // namespace lplb
