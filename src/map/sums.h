// SPDX-License-Identifier: MIT
#pragma once

#include "map/rules.h"

// assign_exactly() in another order, for kernels. All it needs to know of the ranks are sums of
// their counts. These do not depend on the split, so the kernel computes them while the split is
// being solved. After that it walks over the replicas only, not over the ranks.
namespace lplb::map {

/// A replicated expert as one rank's kernel sees it. Replicas are ascending.
template <class Tokens>
struct SummedExpert {
  const Index* physical;              ///< [num_replicas]
  const std::uint16_t* replica_rank;  ///< [num_replicas]
  const Tokens* quota;                ///< [num_replicas]
  const Tokens* rank_tokens;          ///< [num_replicas]: tokens on the replica's rank
  const Tokens* node_tokens;          ///< [num_replicas]: tokens on that rank's node
  Index num_replicas;
  Index ranks_per_node;
  Tokens own;          ///< tokens on this rank
  Tokens before_rank;  ///< tokens on lower ranks of its node
  Tokens before_node;  ///< tokens on lower nodes
};

/// Walks over the replicas in order and returns how many tokens stage 1 keeps at each. The slots of
/// a rank fill in order.
template <class Tokens>
class KeptOnRank {
 public:
  LPLB_HOST_DEVICE Tokens next(const SummedExpert<Tokens>& e, Index i) {
    if (e.replica_rank[i] != rank_) {
      rank_ = e.replica_rank[i];
      before_ = 0;
    }
    const Tokens left = larger<Tokens>(e.rank_tokens[i] - before_, 0);
    before_ += e.quota[i];
    return smaller(left, e.quota[i]);
  }

 private:
  Index rank_ = -1;
  Tokens before_ = 0;
};

/// How many entries of a queue [at, at + length) and [begin, end) have in common; <= 0: none.
template <class Tokens>
LPLB_HOST_DEVICE constexpr Tokens overlap(Tokens begin, Tokens end, Tokens at, Tokens length) {
  return smaller(end, at + length) - larger(begin, at);
}

/// One past the last replica that is on the node of replica `i`.
template <class Tokens>
LPLB_HOST_DEVICE inline Index end_of_node(const SummedExpert<Tokens>& e, Index i) {
  const Index end_rank = (e.replica_rank[i] / e.ranks_per_node + 1) * e.ranks_per_node;
  LPLB_ROLLED
  while (i < e.num_replicas && e.replica_rank[i] < end_rank) ++i;
  return i;
}

/// How many tokens stages 1 and 2 keep on a node, whose replicas are [begin, end).
template <class Tokens>
struct KeptOnNode {
  Tokens by_rank = 0;  ///< by stage 1
  Tokens paired = 0;   ///< by stage 2

  LPLB_HOST_DEVICE KeptOnNode(const SummedExpert<Tokens>& e, Index begin, Index end) {
    KeptOnRank<Tokens> kept;
    Tokens quota = 0;
    LPLB_ROLLED
    for (Index i = begin; i < end; ++i) {
      by_rank += kept.next(e, i);
      quota += e.quota[i];
    }
    paired = smaller(e.node_tokens[begin], quota) - by_rank;
  }
};

/// Stage 3. [begin, end): this rank's part of the queue of all tokens that are left, counted from
/// the beginning of its node's part. `first_rank`: the first rank of its node.
template <class Tokens>
LPLB_HOST_DEVICE inline void assign_anywhere(const SummedExpert<Tokens>& e, Index first_rank,
                                             Tokens begin, Tokens end, SegmentWriter<Tokens>& out) {
  Tokens before = e.before_node;
  LPLB_ROLLED
  for (Index i = 0; i < e.num_replicas && e.replica_rank[i] < first_rank;) {
    const Index next = end_of_node(e, i);
    const KeptOnNode<Tokens> node(e, i, next);
    before -= node.by_rank + node.paired;
    i = next;
  }
  begin += before;
  end += before;
  Tokens at = 0;
  LPLB_ROLLED
  for (Index i = 0; i < e.num_replicas && at < end;) {
    const Index next = end_of_node(e, i);
    Tokens paired = KeptOnNode<Tokens>(e, i, next).paired;
    KeptOnRank<Tokens> kept;
    LPLB_ROLLED
    for (; i < next; ++i) {
      const Tokens quota = e.quota[i] - kept.next(e, i);
      const Tokens used = smaller(quota, paired);
      paired -= used;
      out.add(overlap(begin, end, at, quota - used), e.physical[i]);
      at += quota - used;
    }
  }
}

/// Writes the same segments as assign_exactly(). `first_rank`: the first rank of the node of
/// `rank`. O(num_replicas).
template <class Tokens>
LPLB_HOST_DEVICE inline Index assign_by_sums(const SummedExpert<Tokens>& e, Index rank,
                                             Index first_rank, BasicSegment<Tokens>* segments) {
  SegmentWriter<Tokens> out{segments};
  Tokens begin = e.before_rank;  // where this rank's part of its node's queue begins
  KeptOnRank<Tokens> kept;
  Index node_first = 0;
  LPLB_ROLLED
  while (node_first < e.num_replicas && e.replica_rank[node_first] < first_rank) ++node_first;
  Index node_end = node_first;
  LPLB_ROLLED
  for (; node_end < e.num_replicas; ++node_end) {
    const Index at = e.replica_rank[node_end];
    if (at >= first_rank + e.ranks_per_node) break;
    const Tokens tokens = kept.next(e, node_end);
    if (at == rank) out.add(tokens, e.physical[node_end]);
    if (at < rank) begin -= tokens;
  }
  const Tokens end = begin + e.own - out.end;
  if (end == begin) return out.count;

  Tokens at = 0;
  kept = {};
  LPLB_ROLLED
  for (Index i = node_first; i < node_end; ++i) {
    const Tokens quota = e.quota[i] - kept.next(e, i);
    out.add(overlap(begin, end, at, quota), e.physical[i]);
    at += quota;
  }
  if (end > at) {
    assign_anywhere(e, first_rank, larger<Tokens>(begin - at, 0), end - at, out);
  }
  return out.count;
}

}  // namespace lplb::map
