// SPDX-License-Identifier: MIT
#include "plan/device/image.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>

#include "plan/device/args.h"
#include "plan/members.h"

namespace lplb::plan {
namespace {

using solvers::DeviceExpert;
using solvers::DeviceSlot;
using solvers::DeviceTablesHeader;

constexpr std::size_t kAlign = 16;
constexpr std::size_t kNumArrays = 11;

std::size_t aligned(std::size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

/// Appends an array at a multiple of 16 bytes; returns its offset.
template <class T>
std::int32_t append(std::vector<unsigned char>& bytes, std::span<const T> values) {
  const std::size_t offset = aligned(bytes.size());
  bytes.insert(bytes.end(), offset - bytes.size(), 0);
  const auto* first = reinterpret_cast<const unsigned char*>(values.data());
  bytes.insert(bytes.end(), first, first + values.size_bytes());
  return static_cast<std::int32_t>(offset);
}

std::uint16_t narrow(Index value) { return static_cast<std::uint16_t>(value); }

/// The experts and slots in the solver's image.
struct SolverLists {
  const DeviceExpert* experts;
  const DeviceSlot* slots;

  explicit SolverLists(const solvers::DeviceImage& image)
      : experts(at<DeviceExpert>(image, image.header().experts)),
        slots(at<DeviceSlot>(image, image.header().slots)) {}

 private:
  template <class T>
  static const T* at(const solvers::DeviceImage& image, std::int32_t offset) {
    return reinterpret_cast<const T*>(image.bytes.data() + offset);
  }
};

/// A hash (FNV-1a, 4 bytes at a time) of all that the ranks' plans of a batch depend on, other than
/// the counts.
std::uint64_t fingerprint_of(const Placement& p, Solver solver, const CostModel* cost) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto add = [&hash](Index value) {
    hash = (hash ^ static_cast<std::uint32_t>(value)) * 0x100000001b3u;
  };
  add(p.num_ranks);
  add(p.num_nodes);
  add(p.num_logical_experts);
  add(static_cast<Index>(solver));
  for (const Index e : p.physical_to_logical) add(e);
  for (Index g = 0; g < p.num_ranks; ++g) add(p.alive(g) ? 1 : 0);
  if (cost == nullptr) return hash;
  add(static_cast<Index>(cost->fingerprint()));
  add(static_cast<Index>(cost->fingerprint() >> 32));
  return hash;
}

void set_words(std::uint64_t bits, std::uint32_t (&words)[2]) {
  words[0] = static_cast<std::uint32_t>(bits);
  words[1] = static_cast<std::uint32_t>(bits >> 32);
}

/// The arrays of Header.
struct Arrays {
  std::vector<std::int32_t> codes, targets, physical;
  std::vector<Replica> replicas;
  std::vector<std::uint16_t> replica_rank, replica_begin{0}, logical, row_begin, owner;
  std::vector<char> alive;
  bool by_cost;

  Arrays(const Placement& p, const PackedLayout& layout, const SolverLists& solver,
         Index num_members, bool with_costs)
      : targets(layout.size(), kTargetNobody), by_cost(with_costs) {
    const auto num_columns = static_cast<Index>(layout.size());
    add_code(num_columns + kColumnDropped, 0);
    for (Index e = 0; e < p.num_logical_experts; ++e) {
      if (layout.home[e] < 0) {
        add_expert(p, e, solver);
      } else {
        add_code(layout.column[e], p.replicas(e)[0] + 1);
        targets[layout.column[e]] = kTargetFixed | layout.home[e];
      }
    }
    add_code(num_columns + kColumnBad, 0);
    for (Index g = 0; g < p.num_ranks; ++g) alive.push_back(p.alive(g) ? 1 : 0);
    for (const Index row : members_below(p, num_members)) row_begin.push_back(narrow(row));
    for (const Index e : p.physical_to_logical) owner.push_back(narrow(e));
  }

  /// With dynamic slots.
  Arrays(const Placement& p, const PackedLayout& layout, Index num_members, Index dynamic_slots)
      : targets(layout.size()), logical(layout.size()), by_cost(false) {
    const auto num_columns = static_cast<Index>(layout.size());
    add_code(num_columns + kColumnDropped, 0);
    for (Index e = 0; e < p.num_logical_experts; ++e) {
      add_code(layout.column[e], 0);
      targets[layout.column[e]] = kTargetWant | e;
      logical[layout.column[e]] = narrow(e);
    }
    add_code(num_columns + kColumnBad, 0);
    for (Index column = 0; column < num_columns; ++column) {
      for (const Index slot : p.replicas(logical[column])) {
        physical.push_back(slot + p.rank_of(slot) * dynamic_slots);
        replica_rank.push_back(narrow(p.rank_of(slot)));
      }
      replica_begin.push_back(narrow(static_cast<Index>(physical.size())));
    }
    for (Index g = 0; g < p.num_ranks; ++g) alive.push_back(p.alive(g) ? 1 : 0);
    for (const Index row : members_below(p, num_members)) row_begin.push_back(narrow(row));
  }

 private:
  void add_code(Index column, Index low) { codes.push_back(column << kCodeBits | low); }

  void add_expert(const Placement& p, Index e, const SolverLists& solver) {
    const auto column = static_cast<Index>(logical.size());
    const DeviceExpert& expert = solver.experts[e];
    add_code(column, 0);
    targets[column] = (expert.is_fixed != 0 ? kTargetFixed : kTargetWant) | expert.index;
    logical.push_back(narrow(e));
    for (const Index slot : p.replicas(e)) {
      const DeviceSlot& source = solver.slots[slot];
      physical.push_back(slot);
      replica_rank.push_back(narrow(p.rank_of(slot)));
      replicas.push_back({source.place, source.index, source.count, narrow(column)});
      // If costs count, the first of the slots that share a place takes all, as in solve().
      if (by_cost) replicas.back().count = source.count > 0 && source.index == 0 ? 1 : 0;
    }
    replica_begin.push_back(narrow(static_cast<Index>(physical.size())));
  }
};

/// Sets how the threads of a block share the sums over the rows: each thread has a column and a
/// range of the rows.
void set_stretches(Header* h) {
  h->column_bits = std::bit_width(static_cast<unsigned>(h->num_columns - 1));
  const int stretches = std::max(kThreads >> h->column_bits, 1);
  h->stretch_rows = (h->num_rows + stretches - 1) / stretches;
}

/// What follows from a placement and its layout.
Header header_of(const Placement& placement, const PackedLayout& layout, Index num_members) {
  Header h{};
  h.num_ranks = placement.num_ranks;
  h.num_logical = placement.num_logical_experts;
  h.num_columns = static_cast<std::int32_t>(layout.size());
  h.safe_count = INT32_MAX / h.num_columns;
  h.num_rows = num_members;
  set_stretches(&h);
  h.slots_per_rank = placement.slots_per_rank();
  h.ranks_per_node = placement.num_ranks / placement.num_nodes;
  set_words(layout.fingerprint, h.layout);
  return h;
}

void write(const Arrays& arrays, std::span<const unsigned char> solver, Header h,
           std::vector<unsigned char>& bytes) {
  h.num_replicas = static_cast<std::int32_t>(arrays.physical.size());
  bytes.assign(sizeof(Header), 0);
  h.codes = append<std::int32_t>(bytes, arrays.codes);
  h.targets = append<std::int32_t>(bytes, arrays.targets);
  h.physical = append<std::int32_t>(bytes, arrays.physical);
  h.replicas = append<Replica>(bytes, arrays.replicas);
  h.replica_rank = append<std::uint16_t>(bytes, arrays.replica_rank);
  h.replica_begin = append<std::uint16_t>(bytes, arrays.replica_begin);
  h.logical = append<std::uint16_t>(bytes, arrays.logical);
  h.alive = append<char>(bytes, arrays.alive);
  h.row_begin = append<std::uint16_t>(bytes, arrays.row_begin);
  h.solver = append(bytes, solver);
  bytes.insert(bytes.end(), aligned(bytes.size()) - bytes.size(), 0);
  h.bytes = static_cast<std::int32_t>(bytes.size());
  h.owner = append<std::uint16_t>(bytes, arrays.owner);
  bytes.insert(bytes.end(), aligned(bytes.size()) - bytes.size(), 0);
  h.total_bytes = static_cast<std::int32_t>(bytes.size());
  std::memcpy(bytes.data(), &h, sizeof(h));
}

}  // namespace

std::size_t max_image_bytes(const Limits& limits) {
  const auto logical = static_cast<std::size_t>(limits.num_logical);
  const auto ranks = static_cast<std::size_t>(limits.num_ranks);
  const auto columns = static_cast<std::size_t>(limits.max_columns());
  const auto replicas = static_cast<std::size_t>(limits.max_replicas());
  const auto physical = static_cast<std::size_t>(limits.max_physical());
  return aligned(
      sizeof(Header) + (logical + 2 + columns + replicas) * sizeof(std::int32_t) +
      replicas * (sizeof(Replica) + sizeof(std::uint16_t)) +
      (2 * columns + 1 + ranks + 1 + physical) * sizeof(std::uint16_t) + ranks +
      solvers::max_image_bytes(limits.num_ranks, limits.num_logical, limits.max_physical()) +
      (limits.cost == nullptr ? 0 : solvers::max_cost_bytes(limits.num_ranks, *limits.cost)) +
      kNumArrays * kAlign);
}

void Image::assign(const Placement& placement, Solver chosen, Index num_members,
                   const CostModel* cost) {
  const SplitProblem problem(placement);
  layout_.assign(placement, cost == nullptr ? Singles::kSummed : Singles::kEach);
  if (cost != nullptr) model_.assign(*cost, problem.tables());
  solver_.assign(problem.tables(), cost == nullptr ? nullptr : &model_);
  const DeviceTablesHeader& solver = solver_.header();
  const Arrays arrays(placement, layout_, SolverLists(solver_), num_members, cost != nullptr);

  Header h = header_of(placement, layout_, num_members);
  h.num_replicated = static_cast<std::int32_t>(layout_.replicated.size());
  choose_form(solver, chosen, &h);
  set_words(fingerprint_of(placement, chosen, cost), h.fingerprint);
  write(arrays, std::span(solver_.bytes).first(static_cast<std::size_t>(solver.solver_bytes)), h,
        bytes_);
}

void Image::assign_with_copies(const Placement& placement, Index num_members, Index dynamic_slots,
                               std::uint64_t options) {
  layout_.assign(placement, Singles::kEach);
  Header h = header_of(placement, layout_, num_members);
  h.num_replicated = h.num_columns;
  h.slots_per_rank += dynamic_slots;
  set_words(fingerprint_of(placement, Solver::kFlow, nullptr) ^ options, h.fingerprint);
  write(Arrays(placement, layout_, num_members, dynamic_slots), {}, h, bytes_);
}

}  // namespace lplb::plan
