// SPDX-License-Identifier: MIT
#pragma once

#include "exchange/peer/round.cuh"
#include "exchange/rail/rail.h"

// An exchange of two levels in one block: first along the rail by puts of a Network, then within
// the domain by stores. A Network reaches the ranks of the rail by these functions of the device:
//
// - put(domain, to, from, bytes, signal): the whole warp calls it. It puts bytes of this rank's
//   memory at the offset `from` to the offset `to` in the memory of a domain, then adds 1 to the
//   signal with this number there. It returns before the bytes have come.
// - signal(index): reads a signal of this rank. What was put before the signal is visible after it.
namespace lplb::exchange {

/// A Wire to ranks whose memory this device cannot access: lines are written to this rank's memory,
/// then one put sends them all. The signal that follows them tells that lines have come; as in
/// every round, only their epochs tell that they are the right ones.
template <class Network>
class PutWire {
 public:
  __device__ PutWire(const PeerArgs& args, const Network& network)
      : a_(args), layout_{args.layout}, network_(network) {
    // NOTE: there is exactly one put for each round and rank, whether or not the round is complete,
    // so the signal counts rounds.
    const auto& control = *reinterpret_cast<const ExchangeControl*>(a_.own + a_.channel);
    round_ = control.rounds + 1;
  }

  __device__ unsigned long long look_up(int) const { return 0; }
  __device__ ExchangeLine* open(int domain, unsigned long long, std::uint32_t epoch) const {
    return reinterpret_cast<ExchangeLine*>(a_.own + layout_.to_send(epoch, domain));
  }
  __device__ void send(int domain, int num_lines, std::uint32_t epoch) const {
    __syncwarp();
    network_.put(domain, layout_.lines.lines(epoch, a_.rank), layout_.to_send(epoch, domain),
                 num_lines * static_cast<int>(sizeof(ExchangeLine)), a_.rank);
  }
  __device__ bool has_come(int domain) const { return network_.signal(domain) >= round_; }

 private:
  const PeerArgs& a_;
  const RailLayout layout_;
  const Network& network_;
  unsigned long long round_;
};

/// What the threads of a block share in a round.
template <class Network>
struct RailShared {
  typename WireRound<PutWire<Network>>::SharedVerdict rail;
  PeerRound::SharedVerdict domain;
  std::uint32_t lost;
};

/// Runs one round in one block.
template <class Network>
__device__ void gather_along_rail(const RailArgs& a, const Network& network,
                                  RailShared<Network>& shared) {
  const auto thread = static_cast<int>(threadIdx.x);
  const auto num_threads = static_cast<int>(blockDim.x);
  const int num_domains = a.rail.layout.num_ranks;
  const int row_size = num_domains * a.num_counts;
  const bool has_domain = a.domain.own != nullptr;
  const int domain_size = has_domain ? a.domain.layout.num_ranks : 1;

  WireRound<PutWire<Network>> rail(a.rail, PutWire<Network>(a.rail, network), shared.rail, 0, 1);
  PeerRound domain(a.domain, shared.domain, 0, 1);
  rail.begin();
  if (has_domain) domain.begin();
  if (thread == 0) shared = {};
  rail.push(a.num_counts, a.fingerprint, [&](int c) { return a.mine[c]; });
  for (int c = thread; c < a.num_counts; c += num_threads) {
    a.row[a.rail.rank * a.num_counts + c] = a.mine[c];
  }
  __syncthreads();
  rail.gather(a.num_counts, a.fingerprint, [&](int from, int column, int count) {
    a.row[from * a.num_counts + column] = count;
  });
  __syncthreads();

  const auto place = [&](int rank_in_domain, int column, int count) {
    const int d = column / a.num_counts;
    a.all[(d * domain_size + rank_in_domain) * a.num_counts + column - d * a.num_counts] = count;
  };
  const int rank_in_domain = has_domain ? a.domain.rank : 0;
  if (thread == 0) atomicOr(&shared.lost, rail.verdict());
  if (has_domain) {
    // The verdict of the rail's round travels as one more count.
    domain.push(row_size + 1, a.fingerprint,
                [&](int c) { return c < row_size ? a.row[c] : static_cast<int>(rail.verdict()); });
  }
  for (int c = thread; c < row_size; c += num_threads) place(rank_in_domain, c, a.row[c]);
  if (has_domain) {
    domain.gather(row_size + 1, a.fingerprint, [&](int from, int column, int count) {
      if (column < row_size) {
        place(from, column, count);
      } else if (count != 0) {
        atomicOr(&shared.lost, static_cast<std::uint32_t>(count));
      }
    });
    __syncthreads();
    if (thread == 0) atomicOr(&shared.lost, domain.verdict());
  }
  __syncthreads();
  const std::uint32_t lost = shared.lost;
  if (lost != 0) {
    const int total = row_size * domain_size;
    for (int i = thread; i < total; i += num_threads) a.all[i] = -1;
  }
  if (thread != 0) return;
  rail.finish();
  if (has_domain) domain.finish();
  if (a.outcome != nullptr) *a.outcome = static_cast<int>(lost);
  count_round(*a.control, lost);
}

}  // namespace lplb::exchange
