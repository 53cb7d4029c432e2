// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <utility>

#include "core/check.h"
#include "core/made.h"
#include "core/mix.h"
#include "lplb/weight_exchange.h"

namespace lplb {
namespace {

/// What a dynamic slot holds: a version of a main slot of some rank.
struct Held {
  Index rank = -1;  // -1: nothing
  Index main_slot = 0;
  std::int64_t version = 0;

  bool operator==(const Held&) const = default;
};

/// A rank's memory, which the others read.
struct Rank {
  std::shared_mutex weights;  // of the main slots, their versions and `is_gone`
  bool is_gone = false;
  WeightBuffers buffers;
  std::vector<std::int64_t> version;  // [M]
  std::shared_mutex gradients;        // of `handed_in`
  std::vector<std::byte> handed_in;   // [S, bytes of an expert's gradients]
};

std::size_t gradient_size(GradientType type) {
  return type == GradientType::kFloat32 ? sizeof(float) : sizeof(std::uint16_t);
}

float read_gradient(GradientType type, const std::byte* at) {
  if (type == GradientType::kFloat32) {
    float value = 0;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof(bits));
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

void write_gradient(GradientType type, float value, std::byte* at) {
  if (type == GradientType::kFloat32) {
    std::memcpy(at, &value, sizeof(value));
    return;
  }
  auto bits = std::bit_cast<std::uint32_t>(value);
  const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  bits = is_nan ? bits | 0x400000U : bits + 0x7FFFU + ((bits >> 16) & 1U);
  const auto half = static_cast<std::uint16_t>(bits >> 16);
  std::memcpy(at, &half, sizeof(half));
}

}  // namespace

struct InProcessWeights::Shared {
  Shared(const Placement& p, Index slots, WeightLayout tensors, std::chrono::microseconds deadline)
      : placement(p),
        dynamic_slots(slots),
        layout(std::move(tensors)),
        group(p.num_live_ranks(), deadline),
        ranks(static_cast<std::size_t>(p.num_ranks)) {
    round_layout.num_ranks = p.num_live_ranks();
    round_layout.num_counts = 1;
  }

  std::size_t gradient_bytes() const {
    return layout.num_gradients * gradient_size(layout.gradient_type);
  }

  const Placement placement;
  const Index dynamic_slots;
  const WeightLayout layout;
  PackedLayout round_layout;  // a round carries one integer
  std::mutex mutex;           // of `group`, while members are handed out
  InProcessGroup group;
  std::vector<Rank> ranks;  // [num_ranks]
};

struct WeightExchange::State {
  State(std::shared_ptr<InProcessWeights::Shared> s, Index own_rank, std::shared_ptr<Exchange> p)
      : shared(std::move(s)),
        rank(own_rank),
        peers(std::move(p)),
        said(static_cast<std::size_t>(peers->num_ranks())),
        held(static_cast<std::size_t>(shared->dynamic_slots)),
        sum(shared->layout.num_gradients) {}

  Rank& own() const { return shared->ranks[static_cast<std::size_t>(rank)]; }

  /// A round: returns whether all ranks have come before the deadline. All ranks must say the same.
  bool meet(std::uint64_t word) {
    const std::array<Load, 1> mine = {static_cast<Load>(word >> 1)};
    if (peers->all_gather(shared->round_layout, mine, said) != ExchangeStatus::kComplete) {
      ++stats.timed_out;
      return false;
    }
    for (const Load other : said) {
      if (other != mine[0]) throw ExchangeError("the ranks' copies, or their calls, differ");
    }
    return true;
  }

  void check_plan(const Replication& plan) const;
  Index main_slot_of(Index source, Index expert) const;
  void bring(Index slot, Index source, Index expert);
  void add_copies(Index main_slot);

  std::shared_ptr<InProcessWeights::Shared> shared;
  Index rank;
  std::shared_ptr<Exchange> peers;
  std::vector<Load> said;  // [members]
  std::vector<Held> held;  // [S]
  std::vector<float> sum;
  std::vector<Index> slot_expert, slot_source;  // [num_ranks, S] of the last fetch; -1: it was lost
  WeightStats stats;
};

/// The main slot, 0 to M - 1, in which `source` has the expert; -1: none.
Index WeightExchange::State::main_slot_of(Index source, Index expert) const {
  const Placement& p = shared->placement;
  const auto begin = p.physical_to_logical.begin() + source * p.slots_per_rank();
  const auto found = std::find(begin, begin + p.slots_per_rank(), expert);
  return found == begin + p.slots_per_rank() ? -1 : static_cast<Index>(found - begin);
}

void WeightExchange::State::check_plan(const Replication& plan) const {
  const Placement& p = shared->placement;
  const auto slots = static_cast<std::size_t>(p.num_ranks) * shared->dynamic_slots;
  check_argument(plan.slot_expert.size() == slots && plan.slot_source.size() == slots, "plan",
                 "has {} experts and {} sources in dynamic slots, expected num_ranks * {}",
                 plan.slot_expert.size(), plan.slot_source.size(), shared->dynamic_slots);
  for (std::size_t i = 0; i < slots; ++i) {
    const Index e = plan.slot_expert[i];
    if (e < 0) continue;
    const Index source = plan.slot_source[i];
    check_argument(
        source >= 0 && source < p.num_ranks && p.alive(source) && main_slot_of(source, e) >= 0,
        "plan", "takes expert {} from rank {}, which does not have it", e, source);
  }
}

/// Copies an expert into one of this rank's dynamic slots, unless it is there already.
void WeightExchange::State::bring(Index slot, Index source, Index expert) {
  Rank& from = shared->ranks[static_cast<std::size_t>(source)];
  const Index main_slot = main_slot_of(source, expert);
  const std::shared_lock lock(from.weights);
  if (from.is_gone) return;  // the group has ended, and the next round says so
  const Held wanted{source, main_slot, from.version[static_cast<std::size_t>(main_slot)]};
  Held& now = held[static_cast<std::size_t>(slot)];
  if (now == wanted) {
    ++stats.skipped;
    return;
  }
  now = {};
  const std::vector<void*>& to = own().buffers.dynamic[static_cast<std::size_t>(slot)];
  for (std::size_t i = 0; i < to.size(); ++i) {
    const std::size_t bytes = shared->layout.tensor_bytes[i];
    std::memcpy(to[i], from.buffers.main[static_cast<std::size_t>(main_slot)][i], bytes);
    stats.bytes += static_cast<std::int64_t>(bytes);
  }
  now = wanted;
  ++stats.copied;
}

/// Adds to a main slot's gradients what the copies of it have handed in, in the order of ranks.
void WeightExchange::State::add_copies(Index main_slot) {
  const Placement& p = shared->placement;
  const Index expert = p.physical_to_logical[rank * p.slots_per_rank() + main_slot];
  if (main_slot_of(rank, expert) != main_slot) return;  // copies come from the first such slot
  const GradientType type = shared->layout.gradient_type;
  const std::size_t size = gradient_size(type);
  auto* const total =
      static_cast<std::byte*>(own().buffers.main_gradients[static_cast<std::size_t>(main_slot)]);
  bool any = false;
  for (std::size_t i = 0; i < slot_expert.size(); ++i) {
    if (slot_expert[i] != expert || slot_source[i] != rank) continue;
    if (!any) {
      for (std::size_t k = 0; k < sum.size(); ++k) sum[k] = read_gradient(type, total + k * size);
      any = true;
    }
    const auto slots = static_cast<std::size_t>(shared->dynamic_slots);
    Rank& from = shared->ranks[i / slots];
    const std::shared_lock lock(from.gradients);
    const std::byte* const copy = from.handed_in.data() + i % slots * shared->gradient_bytes();
    for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += read_gradient(type, copy + k * size);
  }
  if (!any) return;
  for (std::size_t k = 0; k < sum.size(); ++k) write_gradient(type, sum[k], total + k * size);
}

WeightExchange::WeightExchange(std::unique_ptr<State> state) : state_(std::move(state)) {}

WeightExchange::~WeightExchange() {
  state_->peers.reset();  // ends the group
  Rank& own = state_->own();
  const std::unique_lock lock(own.weights);
  own.is_gone = true;
}

ExchangeStatus WeightExchange::fetch(const Replication& plan) {
  State& s = *state_;
  s.check_plan(plan);
  std::uint64_t hash = 1;
  for (const std::vector<Index>* part : {&plan.slot_expert, &plan.slot_source}) {
    for (const Index i : *part) hash = mix(hash + static_cast<std::uint32_t>(i));
  }
  s.slot_expert.assign(plan.slot_expert.size(), -1);  // until all have their copies
  s.slot_source.assign(plan.slot_source.size(), -1);
  // After this round all ranks have updated the weights of this batch.
  if (!s.meet(hash)) return ExchangeStatus::kTimedOut;
  const Index slots = s.shared->dynamic_slots;
  for (Index i = 0; i < slots; ++i) {
    const auto at = static_cast<std::size_t>(s.rank) * slots + i;
    if (plan.slot_expert[at] >= 0) s.bring(i, plan.slot_source[at], plan.slot_expert[at]);
  }
  // After this one all ranks have their copies.
  if (!s.meet(hash)) return ExchangeStatus::kTimedOut;
  s.slot_expert = plan.slot_expert;
  s.slot_source = plan.slot_source;
  return ExchangeStatus::kComplete;
}

void WeightExchange::update(std::span<const Index> main_slots,
                            const std::function<void()>& change) {
  Rank& own = state_->own();
  for (const Index slot : main_slots) {
    check_argument(slot >= 0 && static_cast<std::size_t>(slot) < own.version.size(), "main_slots",
                   "has {}, expected 0 to {}", slot, own.version.size() - 1);
  }
  const std::unique_lock lock(own.weights);
  for (const Index slot : main_slots) ++own.version[static_cast<std::size_t>(slot)];
  change();
}

ExchangeStatus WeightExchange::reduce_gradients() {
  State& s = *state_;
  InProcessWeights::Shared& shared = *s.shared;
  check_argument(shared.layout.num_gradients > 0, "num_gradients", "is 0, expected at least 1");
  check_argument(!s.slot_expert.empty(), "plan", "nothing was fetched, expected fetch() before");
  {
    Rank& own = s.own();
    const std::unique_lock lock(own.gradients);
    std::byte* to = own.handed_in.data();
    for (const void* from : own.buffers.dynamic_gradients) {
      std::memcpy(to, from, shared.gradient_bytes());
      to += shared.gradient_bytes();
    }
  }
  constexpr std::uint64_t kWord = 2;  // no hash of a plan, in practice
  if (!s.meet(kWord)) return ExchangeStatus::kTimedOut;
  for (Index slot = 0; slot < shared.placement.slots_per_rank(); ++slot) s.add_copies(slot);
  // Until all ranks have read them, nobody hands in gradients of the next batch.
  return s.meet(kWord) ? ExchangeStatus::kComplete : ExchangeStatus::kTimedOut;
}

const WeightStats& WeightExchange::stats() const { return state_->stats; }

InProcessWeights::InProcessWeights(const Placement& placement, Index dynamic_slots,
                                   const WeightLayout& layout, std::chrono::microseconds deadline) {
  check_maps(placement, "placement");
  check_argument(dynamic_slots >= 1 && dynamic_slots <= kMaxDynamicSlots, "dynamic_slots",
                 "{} is not between 1 and {}", dynamic_slots, kMaxDynamicSlots);
  check_argument(!layout.tensor_bytes.empty(), "tensor_bytes", "is empty, expected a tensor");
  for (const std::size_t bytes : layout.tensor_bytes) {
    check_argument(bytes > 0, "tensor_bytes", "has 0, expected at least 1");
  }
  shared_ = std::make_shared<Shared>(placement, dynamic_slots, layout, deadline);
}
InProcessWeights::~InProcessWeights() = default;
InProcessWeights::InProcessWeights(InProcessWeights&&) noexcept = default;
InProcessWeights& InProcessWeights::operator=(InProcessWeights&&) noexcept = default;

std::unique_ptr<WeightExchange> InProcessWeights::member(Index rank, const WeightBuffers& buffers) {
  Shared& shared = *shared_;
  const Placement& p = shared.placement;
  check_argument(rank >= 0 && rank < p.num_ranks && p.alive(rank), "rank",
                 "{} is not a live rank of 0 to {}", rank, p.num_ranks - 1);
  const auto check_slots = [&](const std::vector<std::vector<void*>>& slots, Index count,
                               const char* name) {
    check_argument(slots.size() == static_cast<std::size_t>(count), name,
                   "has {} slots, expected {}", slots.size(), count);
    for (const std::vector<void*>& tensors : slots) {
      check_argument(tensors.size() == shared.layout.tensor_bytes.size() &&
                         std::find(tensors.begin(), tensors.end(), nullptr) == tensors.end(),
                     name, "has a slot of {} tensors, or a null one, expected {}", tensors.size(),
                     shared.layout.tensor_bytes.size());
    }
  };
  const auto check_gradients = [&](const std::vector<void*>& slots, Index count, const char* name) {
    const auto wanted = shared.layout.num_gradients > 0 ? static_cast<std::size_t>(count) : 0;
    check_argument(
        slots.size() == wanted && std::find(slots.begin(), slots.end(), nullptr) == slots.end(),
        name, "has {} slots, or a null one, expected {}", slots.size(), wanted);
  };
  check_slots(buffers.main, p.slots_per_rank(), "main");
  check_slots(buffers.dynamic, shared.dynamic_slots, "dynamic");
  check_gradients(buffers.main_gradients, p.slots_per_rank(), "main_gradients");
  check_gradients(buffers.dynamic_gradients, shared.dynamic_slots, "dynamic_gradients");

  Index member = 0;
  for (Index g = 0; g < rank; ++g) member += p.alive(g) ? 1 : 0;
  const std::lock_guard lock(shared.mutex);
  std::shared_ptr<Exchange> peers = shared.group.member(member);
  Rank& own = shared.ranks[static_cast<std::size_t>(rank)];
  own.buffers = buffers;
  own.version.assign(static_cast<std::size_t>(p.slots_per_rank()), 1);
  own.handed_in.resize(shared.gradient_bytes() * static_cast<std::size_t>(shared.dynamic_slots));
  auto state = std::make_unique<WeightExchange::State>(shared_, rank, std::move(peers));
  return std::unique_ptr<WeightExchange>(new WeightExchange(std::move(state)));
}

}  // namespace lplb
