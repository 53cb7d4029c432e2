// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/host_device.h"
#include "core/wide.h"
#include "lplb/types.h"

// Which replica takes the i-th token of expert e on rank r: the rules of docs/design/0003, which
// all backends share. The tokens of an expert on a rank are numbered 0, 1, ... in their order in
// topk_idx. A rule writes segments: runs of numbers that go to the same replica. A replica has at
// most one segment, so an array of replica_count[e] segments is large enough.
namespace lplb::map {

/// The tokens from the end of the previous segment (from 0, for the first one) to `end`, exclusive,
/// go to `physical`. `Tokens` is Load, or int if all sums are known to fit.
template <class Tokens>
struct BasicSegment {
  Tokens end;
  Index physical;
};
using Segment = BasicSegment<Load>;

/// A replicated expert in a batch: what all ranks know of it.
template <class Tokens>
struct BasicExpertBatch {
  const Tokens* counts;  ///< counts[g * stride] tokens are on rank g, >= 0
  std::ptrdiff_t stride;
  const Tokens* quota;    ///< [num_physical], >= 0; those of the replicas sum to the counts
  const Index* replicas;  ///< [num_replicas], physical ids, ascending
  Index num_replicas;
  Index num_ranks;
  Index ranks_per_node;
  Index slots_per_rank;
};
using ExpertBatch = BasicExpertBatch<Load>;

/// Appends segments to `out`, and leaves out empty ones.
template <class Tokens>
struct SegmentWriter {
  BasicSegment<Tokens>* out;
  Index count = 0;
  Tokens end = 0;

  LPLB_HOST_DEVICE void add(Tokens tokens, Index physical) {
    if (tokens <= 0) return;
    end += tokens;
    out[count++] = {end, physical};
  }
};

template <class Tokens>
LPLB_HOST_DEVICE constexpr Tokens smaller(Tokens a, Tokens b) {
  return a < b ? a : b;
}
template <class Tokens>
LPLB_HOST_DEVICE constexpr Tokens larger(Tokens a, Tokens b) {
  return a < b ? b : a;
}

/// What an expert has on one rank.
template <class Tokens>
struct RankShare {
  Index first;    ///< index into `replicas` of the rank's first one
  Tokens local;   ///< tokens that stage 1 keeps on the rank
  Tokens tokens;  ///< tokens that are left after stage 1
  Tokens quota;   ///< quotas that are left after stage 1
};

/// The share of `rank`. `*next` must be the first replica that is not on a lower rank. It moves
/// past the replicas of this rank.
template <class Tokens>
LPLB_HOST_DEVICE inline RankShare<Tokens> rank_share(const BasicExpertBatch<Tokens>& b, Index rank,
                                                     Index* next) {
  const Index end_slot = (rank + 1) * b.slots_per_rank;
  RankShare<Tokens> share{*next, 0, b.counts[rank * b.stride], 0};
  while (*next < b.num_replicas && b.replicas[*next] < end_slot) {
    share.quota += b.quota[b.replicas[(*next)++]];
  }
  share.local = smaller(share.tokens, share.quota);
  share.tokens -= share.local;
  share.quota -= share.local;
  return share;
}

/// The first replica that is not on a rank below `rank`.
template <class Tokens>
LPLB_HOST_DEVICE inline Index first_replica(const BasicExpertBatch<Tokens>& b, Index rank) {
  Index i = 0;
  while (i < b.num_replicas && b.replicas[i] < rank * b.slots_per_rank) ++i;
  return i;
}

/// The tokens and quotas that stage 1 leaves on the ranks of a node. Stage 2 pairs the smaller of
/// the two sums.
template <class Tokens>
struct NodeShare {
  Tokens tokens = 0;
  Tokens quota = 0;

  LPLB_HOST_DEVICE Tokens paired() const { return smaller(tokens, quota); }
};

/// The share of `node`. `*next` as in rank_share().
template <class Tokens>
LPLB_HOST_DEVICE inline NodeShare<Tokens> node_share(const BasicExpertBatch<Tokens>& b, Index node,
                                                     Index* next) {
  NodeShare<Tokens> sum;
  for (Index i = 0; i < b.ranks_per_node; ++i) {
    const RankShare<Tokens> share = rank_share(b, node * b.ranks_per_node + i, next);
    sum.tokens += share.tokens;
    sum.quota += share.quota;
  }
  return sum;
}

/// Gives those of the tokens [begin, end) of a queue to a rank that lie in [at, at + length), the
/// part of the queue that the rank's slots take. Slots fill in order, and `used` tokens of the
/// rank's quota are taken already. `first`: the rank's first replica.
template <class Tokens>
LPLB_HOST_DEVICE inline void give(const BasicExpertBatch<Tokens>& b, Index first, Tokens used,
                                  Tokens at, Tokens length, Tokens begin, Tokens end,
                                  SegmentWriter<Tokens>& out) {
  begin = larger(begin, at);
  Tokens tokens = smaller(end, at + length) - begin;
  Tokens skip = used + (begin - at);
  for (Index i = first; tokens > 0; ++i) {
    const Index physical = b.replicas[i];
    const Tokens take = smaller(tokens, b.quota[physical] - skip);
    if (take <= 0) {
      skip -= b.quota[physical];
      continue;
    }
    out.add(take, physical);
    tokens -= take;
    skip = 0;
  }
}

/// Stage 3: the queue of all tokens that are left meets all quotas that are left, both in the order
/// of ranks. [begin, end) is the part of the queue that belongs to `rank`, counted from the
/// beginning of its node's part.
template <class Tokens>
LPLB_HOST_DEVICE inline void give_anywhere(const BasicExpertBatch<Tokens>& b, Index rank,
                                           Tokens begin, Tokens end, SegmentWriter<Tokens>& out) {
  Index next = 0;
  for (Index node = 0; node < rank / b.ranks_per_node; ++node) {
    const NodeShare<Tokens> share = node_share(b, node, &next);
    begin += share.tokens - share.paired();
    end += share.tokens - share.paired();
  }
  Tokens at = 0;
  next = 0;
  for (Index node = 0; at < end && node < b.num_ranks / b.ranks_per_node; ++node) {
    Index ahead = next;
    Tokens paired = node_share(b, node, &ahead).paired();
    for (Index i = 0; i < b.ranks_per_node; ++i) {
      const RankShare<Tokens> share = rank_share(b, node * b.ranks_per_node + i, &next);
      const Tokens used = smaller(share.quota, paired);
      paired -= used;
      give(b, share.first, share.local + used, at, share.quota - used, begin, end, out);
      at += share.quota - used;
    }
  }
}

/// The rule if the counts of all ranks are known. Over the group the quotas are met exactly, and as
/// many tokens as possible stay on their rank, then on their node.
/// - Stage 1: a rank's first tokens go to its own slots.
/// - Stage 2: the tokens that are left in a node, queued by rank, meet the quotas that are left in
///   the node, queued by slot.
/// - Stage 3: the same over the group.
/// Returns the number of segments; the last one ends at the rank's count.
/// O(num_ranks + num_replicas).
template <class Tokens>
LPLB_HOST_DEVICE inline Index assign_exactly(const BasicExpertBatch<Tokens>& b, Index rank,
                                             BasicSegment<Tokens>* segments) {
  SegmentWriter<Tokens> out{segments};
  Index next = first_replica(b, rank);
  const RankShare<Tokens> own = rank_share(b, rank, &next);
  give(b, own.first, Tokens{0}, Tokens{0}, own.local, Tokens{0}, own.local, out);
  if (own.tokens == 0) return out.count;

  const Index first_rank = rank / b.ranks_per_node * b.ranks_per_node;
  const Index node_first = first_replica(b, first_rank);
  NodeShare<Tokens> node;
  Tokens begin = 0;  // where the rank's tokens begin in its node's queue
  next = node_first;
  for (Index g = first_rank; g < first_rank + b.ranks_per_node; ++g) {
    const RankShare<Tokens> share = rank_share(b, g, &next);
    if (g < rank) begin += share.tokens;
    node.tokens += share.tokens;
    node.quota += share.quota;
  }
  const Tokens end = begin + own.tokens;
  Tokens at = 0;
  next = node_first;
  for (Index g = first_rank; g < first_rank + b.ranks_per_node; ++g) {
    const RankShare<Tokens> share = rank_share(b, g, &next);
    give(b, share.first, share.local, at, share.quota, begin, end, out);
    at += share.quota;
  }
  // `at` is the node's quota now. What lies beyond it is not paired in the node.
  if (end > at) give_anywhere(b, rank, larger(begin - at, Tokens{0}), end - at, out);
  return out.count;
}

/// The rule if nothing is known of the other ranks: divides `tokens` evenly over the replicas on
/// live ranks. The remainder goes to the live replicas from the (turn % live)-th on. `alive`
/// [num_ranks]; null: all ranks are live. Returns the number of segments: 0 if no replica is live.
/// O(num_replicas).
template <class Tokens>
LPLB_HOST_DEVICE inline Index divide_evenly(const Index* replicas, Index num_replicas,
                                            const char* alive, Index slots_per_rank, Tokens tokens,
                                            Index turn, BasicSegment<Tokens>* segments) {
  const auto lives = [&](Index i) {
    return alive == nullptr || alive[replicas[i] / slots_per_rank] != 0;
  };
  Index live = 0;
  for (Index i = 0; i < num_replicas; ++i) live += lives(i) ? 1 : 0;
  if (live == 0) return 0;
  const Tokens each = tokens / live;
  const Tokens extra = tokens % live;
  SegmentWriter<Tokens> out{segments};
  Index place = live - turn % live;  // distance from the first replica that takes an extra token
  for (Index i = 0; i < num_replicas; ++i) {
    if (!lives(i)) continue;
    out.add(each + (place % live < extra ? 1 : 0), replicas[i]);
    ++place;
  }
  return out.count;
}

/// floor((tokens * part + phase) / total) for part <= total, with phase = floor(total * turn /
/// 2^32).
template <class Tokens>
class Proportion;
template <>
class Proportion<Load> {
 public:
  LPLB_HOST_DEVICE Proportion(Load total, std::uint32_t turn)
      : total_(static_cast<Uint128>(total)), phase_((total_ * turn) >> 32) {}
  LPLB_HOST_DEVICE Load of(Load tokens, Load part) const {  // (2^63)^2 + 2^63 fits
    return static_cast<Load>((static_cast<Uint128>(tokens) * static_cast<Uint128>(part) + phase_) /
                             total_);
  }

 private:
  Uint128 total_, phase_;
};
/// NOTE: multiplies by a reciprocal, because kernels divide 64-bit integers slowly. The quotient is
/// below 2^31, so it is off by one at most, and the remainder corrects that.
template <>
class Proportion<int> {
 public:
  LPLB_HOST_DEVICE Proportion(int total, std::uint32_t turn)
      : total_(total),
        phase_(static_cast<std::int64_t>((static_cast<std::uint64_t>(total) * turn) >> 32)),
        inverse_(1.0 / total) {}
  LPLB_HOST_DEVICE int of(int tokens, int part) const {
    const std::int64_t product = std::int64_t{tokens} * part + phase_;
    const auto quotient = static_cast<std::int64_t>(static_cast<double>(product) * inverse_);
    const std::int64_t rest = product - quotient * total_;
    return static_cast<int>(quotient + (rest >= total_ ? 1 : 0) - (rest < 0 ? 1 : 0));
  }

 private:
  std::int64_t total_, phase_;
  double inverse_;
};

/// The rule if only the split of the group is known: divides `tokens` in proportion to quota(i),
/// the quota of the i-th replica, by low-discrepancy rounding. Each replica is off by less than one
/// token. The sum of the quotas must fit Tokens. If it is 0, no segment is written.
///
/// The i-th boundary is floor(tokens * Q_i / Q + phase), where Q_i is the sum of the first i
/// quotas. The phase depends on rank and expert, because otherwise small counts would all be
/// rounded in the same direction. The phases are Roberts' R2 sequence ("The unreasonable
/// effectiveness of quasirandom sequences", 2018). Returns the number of segments. O(num_replicas).
template <class Tokens, class Quota>
LPLB_HOST_DEVICE inline Index divide_in_proportion(const Index* replicas, Index num_replicas,
                                                   Quota quota, Tokens tokens, Index rank,
                                                   Index expert, BasicSegment<Tokens>* segments) {
  Tokens sum = 0;
  for (Index i = 0; i < num_replicas; ++i) sum += quota(i);
  if (sum == 0) return 0;
  const std::uint32_t turn = static_cast<std::uint32_t>(rank) * 3242174889u +
                             static_cast<std::uint32_t>(expert) * 2447445414u;
  const Proportion<Tokens> proportion(sum, turn);
  SegmentWriter<Tokens> out{segments};
  Tokens before = 0;
  for (Index i = 0; i < num_replicas; ++i) {
    before += quota(i);
    out.add(proportion.of(tokens, before) - out.end, replicas[i]);
  }
  return out.count;
}

/// divide_in_proportion(), or divide_evenly() if the split has no tokens of the expert.
template <class Tokens, class Quota>
LPLB_HOST_DEVICE inline Index divide_by_split(const Index* replicas, Index num_replicas,
                                              Quota quota, const char* alive, Index slots_per_rank,
                                              Tokens tokens, Index rank, Index expert,
                                              BasicSegment<Tokens>* segments) {
  const Index written =
      divide_in_proportion(replicas, num_replicas, quota, tokens, rank, expert, segments);
  if (written > 0 || tokens == 0) return written;
  return divide_evenly(replicas, num_replicas, alive, slots_per_rank, tokens, expert + rank,
                       segments);
}

/// Where the `number`-th token (from 0) of an expert on this rank goes. `segments`: the segments of
/// the expert; the last one must end beyond `number`. A linear search, because a rank has few
/// segments of an expert.
template <class Tokens>
LPLB_HOST_DEVICE inline Index find_physical(const BasicSegment<Tokens>* segments, Tokens number) {
  while (number >= segments->end) ++segments;
  return segments->physical;
}

}  // namespace lplb::map
