// SPDX-License-Identifier: MIT

#include <array>
#include <exception>
#include <iterator>

#include "core/check.h"
#include "core/device.h"
#include "core/format.h"
#include "exchange/peer/agreement.h"
#include "exchange/peer/memory.h"

namespace lplb {
namespace {

using Bytes = exchange::Agreement::Bytes;

struct MakerKind {
  Transport transport;
  std::string (*missing)(const exchange::MakerGroup&);
  std::unique_ptr<exchange::Maker> (*make)(const exchange::MakerGroup&);
};

/// The transports in the order in which "auto" tries them: the one with the fewest requirements is
/// first.
constexpr std::array<MakerKind, 4> kKinds = {{
    {Transport::kIpc, [](const exchange::MakerGroup&) { return exchange::find_missing_for_ipc(); },
     exchange::make_ipc},
    {Transport::kFabric,
     [](const exchange::MakerGroup&) { return exchange::find_missing_for_fabric(); },
     exchange::make_fabric},
    {Transport::kNccl, exchange::find_missing_for_nccl, exchange::make_nccl},
    {Transport::kNvshmem,
     [](const exchange::MakerGroup&) { return exchange::find_missing_for_nvshmem(); },
     exchange::make_nvshmem},
}};

/// Returns what `find` says is missing, or the message of what it threw. NOTE: if a rank threw
/// instead of telling the others, they would wait for it for ever.
template <class Find>
std::string missing_by(Find find) {
  try {
    return find();
  } catch (const std::exception& error) {
    return error.what();
  }
}

/// The texts that every rank tells first: its arguments, which must be the same on every rank; what
/// it lacks for all transports; then, from kFirstKind on, what it lacks for each of them.
enum Told : std::size_t { kArguments, kDevice, kFirstKind };

}  // namespace

exchange::ConnectedMemory exchange::connect_memory(const MakerGroup& group,
                                                   const AllGatherBytes& all_gather,
                                                   const ConnectOptions& how,
                                                   const std::string& what, std::size_t bytes,
                                                   const PrepareMemory& prepare) {
  check_argument(static_cast<bool>(all_gather), "all_gather", "is empty");
  const bool is_auto = how.transport == "auto";
  if (!is_auto) {
    const Transport named = parse_transport(how.transport);
    check_argument(named != Transport::kGiven && named != Transport::kProcess, "transport",
                   "\"{}\" does not connect processes", how.transport);
  }
  const Agreement agreement(group.num_ranks, all_gather);

  const std::string no_device = missing_by([] {
    device::require();
    return std::string();
  });
  std::vector<std::string> mine = {formatted("{}, transport {}", what, how.transport), no_device};
  for (const MakerKind& kind : kKinds) {
    mine.push_back(no_device.empty() ? missing_by([&] { return kind.missing(group); }) : no_device);
  }
  const auto all = agreement.tell(mine);
  Agreement::require_same(all, kArguments);
  for (std::size_t g = 0; g < all.size(); ++g) {
    if (!all[g][kDevice].empty()) {
      throw ExchangeError(formatted("rank {}: {}", g, all[g][kDevice]));
    }
  }

  std::string reasons;
  const auto refuse = [&](Transport transport, const std::string& why) {
    reasons += formatted("{}{}: {}", reasons.empty() ? "" : "; ", transport_name(transport), why);
  };
  for (std::size_t i = 0; i < kKinds.size(); ++i) {
    const MakerKind& kind = kKinds[i];
    if (!is_auto && how.transport != transport_name(kind.transport)) continue;
    std::string trouble;
    for (std::size_t g = 0; g < all.size() && trouble.empty(); ++g) {
      const std::string& missing = all[g][kFirstKind + i];
      if (!missing.empty()) trouble = formatted("rank {}: {}", g, missing);
    }
    std::vector<Bytes> offers, done;
    std::unique_ptr<Maker> maker;
    std::unique_ptr<PeerMemory> memory;
    if (trouble.empty()) {
      trouble = agreement.run(
          [&] {
            maker = kind.make(group);
            return maker->offer(bytes);
          },
          &offers);
    }
    if (trouble.empty()) {
      trouble = agreement.run(
          [&] {
            memory = maker->accept(offers);
            prepare(group.rank, *memory);
            return Bytes();
          },
          &done);
    }
    if (trouble.empty()) {
      memory->settle();
      return {kind.transport, std::move(memory)};
    }
    refuse(kind.transport, trouble);
  }
  throw ExchangeError("the ranks cannot see each other's memory: " + reasons);
}

PeerGroup PeerGroup::connect(Index rank, Index num_ranks, const AllGatherBytes& all_gather,
                             const PeerGroupOptions& options, const ConnectOptions& how) {
  exchange::check_group(num_ranks, rank, options);
  exchange::ConnectedMemory connected =
      exchange::connect_memory({rank, num_ranks, how.nccl_comm}, all_gather, how,
                               formatted("{} ranks, max_counts {}, {} channels", num_ranks,
                                         options.max_counts, options.num_channels),
                               peer_buffer_bytes(num_ranks, options), exchange::prepare_buffer);
  return exchange::make_peer_group(rank, connected.transport, std::move(connected.memory), options);
}

}  // namespace lplb
