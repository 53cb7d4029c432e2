// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <array>
#include <cstring>
#include <exception>
#include <iterator>

#include "core/check.h"
#include "core/device.h"
#include "exchange/peer_memory.h"

namespace lplb {
namespace {

using Bytes = std::vector<std::byte>;

struct MakerKind {
  Transport transport;
  std::string (*missing)(const MakerGroup&);
  std::unique_ptr<Maker> (*make)(const MakerGroup&);
};

/// In the order that "auto" tries them: what needs least comes first.
constexpr std::array<MakerKind, 4> kKinds = {{
    {Transport::kIpc, [](const MakerGroup&) { return find_missing_for_ipc(); }, make_ipc},
    {Transport::kFabric, [](const MakerGroup&) { return find_missing_for_fabric(); }, make_fabric},
    {Transport::kNccl, find_missing_for_nccl, make_nccl},
    {Transport::kNvshmem, [](const MakerGroup&) { return find_missing_for_nvshmem(); },
     make_nvshmem},
}};

/// What `find` says is missing, or what it threw. A rank that threw in place of telling would leave
/// the others waiting.
template <class Find>
std::string missing_by(Find find) {
  try {
    return find();
  } catch (const std::exception& error) {
    return error.what();
  }
}

/// What every rank says first, as text: its arguments, which must be the same on every rank, and
/// what it lacks: for all kinds, then for each.
enum Told : std::size_t { kArguments, kDevice, kFirstKind };

/// Strings of any length, one after the other.
Bytes to_bytes(const std::vector<std::string>& texts) {
  Bytes bytes;
  for (const std::string& text : texts) {
    const auto size = static_cast<std::uint32_t>(text.size());
    const auto* const head = reinterpret_cast<const std::byte*>(&size);
    const auto* const body = reinterpret_cast<const std::byte*>(text.data());
    bytes.insert(bytes.end(), head, head + sizeof(size));
    bytes.insert(bytes.end(), body, body + text.size());
  }
  return bytes;
}

std::vector<std::string> to_texts(const Bytes& bytes, std::size_t count, std::size_t rank) {
  std::vector<std::string> texts;
  std::size_t at = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t size = 0;
    if (bytes.size() - at < sizeof(size)) break;
    std::memcpy(&size, bytes.data() + at, sizeof(size));
    at += sizeof(size);
    if (bytes.size() - at < size) break;
    texts.emplace_back(reinterpret_cast<const char*>(bytes.data() + at), size);
    at += size;
  }
  if (texts.size() != count || at != bytes.size()) {
    throw ExchangeError(
        fmt::format("rank {} sent {} bytes that this version of the library does not read", rank,
                    bytes.size()));
  }
  return texts;
}

/// The ranks of a group on their way to a transport. Every rank makes the same calls of
/// all_gather(), whatever fails where.
class Agreement {
 public:
  Agreement(const MakerGroup& group, const AllGatherBytes& all_gather)
      : group_(group), all_gather_(all_gather) {}

  /// [num_ranks][count].
  std::vector<std::vector<std::string>> tell(const std::vector<std::string>& mine) const {
    const std::vector<Bytes> all = all_gather_(to_bytes(mine));
    if (all.size() != static_cast<std::size_t>(group_.num_ranks)) {
      throw ExchangeError(fmt::format("all_gather returned what {} ranks sent, expected {}",
                                      all.size(), group_.num_ranks));
    }
    std::vector<std::vector<std::string>> texts;
    texts.reserve(all.size());
    for (std::size_t g = 0; g < all.size(); ++g) {
      texts.push_back(to_texts(all[g], mine.size(), g));
    }
    return texts;
  }

  /// Runs `step`, then tells the others what went wrong, and what came of it. Returns the first
  /// rank's trouble, empty: none had any.
  template <class Step>
  std::string run(Step step, std::vector<Bytes>* results) const {
    std::string trouble;
    Bytes mine;
    try {
      mine = step();
    } catch (const std::exception& error) {
      trouble = error.what();
    }
    const std::string text(reinterpret_cast<const char*>(mine.data()), mine.size());
    const auto all = tell({trouble, text});
    results->clear();
    for (std::size_t g = 0; g < all.size(); ++g) {
      if (!all[g][0].empty()) return fmt::format("rank {}: {}", g, all[g][0]);
      const auto* const first = reinterpret_cast<const std::byte*>(all[g][1].data());
      results->emplace_back(first, first + all[g][1].size());
    }
    return "";
  }

 private:
  const MakerGroup& group_;
  const AllGatherBytes& all_gather_;
};

std::string describe(const PeerGroupOptions& options, Index num_ranks, const std::string& wanted) {
  return fmt::format("{} ranks, max_counts {}, {} channels, transport {}", num_ranks,
                     options.max_counts, options.num_channels, wanted);
}

}  // namespace

PeerGroup PeerGroup::connect(Index rank, Index num_ranks, const AllGatherBytes& all_gather,
                             const PeerGroupOptions& options, const ConnectOptions& how) {
  check_group(num_ranks, rank, options);
  check_argument(static_cast<bool>(all_gather), "all_gather", "is empty");
  const bool is_auto = how.transport == "auto";
  if (!is_auto) {
    const Transport named = parse_transport(how.transport);
    check_argument(named != Transport::kGiven && named != Transport::kProcess, "transport",
                   "\"{}\" does not connect processes", how.transport);
  }
  const MakerGroup group{rank, num_ranks, how.nccl_comm};
  const Agreement agreement(group, all_gather);

  const std::string no_device = missing_by([] {
    device::require();
    return std::string();
  });
  std::vector<std::string> mine = {describe(options, num_ranks, how.transport), no_device};
  for (const MakerKind& kind : kKinds) {
    mine.push_back(no_device.empty() ? missing_by([&] { return kind.missing(group); }) : no_device);
  }
  const auto all = agreement.tell(mine);
  for (std::size_t g = 1; g < all.size(); ++g) {
    if (all[g][kArguments] != all[0][kArguments]) {
      throw ExchangeError(
          fmt::format("rank {} connects {}; rank 0 {}", g, all[g][kArguments], all[0][kArguments]));
    }
  }
  for (std::size_t g = 0; g < all.size(); ++g) {
    if (!all[g][kDevice].empty()) {
      throw ExchangeError(fmt::format("rank {}: {}", g, all[g][kDevice]));
    }
  }

  std::string reasons;
  const auto refuse = [&](Transport transport, const std::string& why) {
    reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", transport_name(transport), why);
  };
  for (std::size_t i = 0; i < kKinds.size(); ++i) {
    const MakerKind& kind = kKinds[i];
    if (!is_auto && how.transport != transport_name(kind.transport)) continue;
    std::string trouble;
    for (std::size_t g = 0; g < all.size() && trouble.empty(); ++g) {
      const std::string& missing = all[g][kFirstKind + i];
      if (!missing.empty()) trouble = fmt::format("rank {}: {}", g, missing);
    }
    std::vector<Bytes> offers, done;
    std::unique_ptr<Maker> maker;
    std::unique_ptr<PeerMemory> memory;
    if (trouble.empty()) {
      trouble = agreement.run(
          [&] {
            maker = kind.make(group);
            return maker->offer(peer_buffer_bytes(num_ranks, options));
          },
          &offers);
    }
    if (trouble.empty()) {
      trouble = agreement.run(
          [&] {
            memory = maker->accept(offers);
            prepare_buffer(rank, *memory);
            return Bytes();
          },
          &done);
    }
    if (trouble.empty()) {
      memory->settle();
      return make_peer_group(rank, kind.transport, std::move(memory), options);
    }
    refuse(kind.transport, trouble);
  }
  throw ExchangeError("the ranks cannot see each other's memory: " + reasons);
}

}  // namespace lplb
