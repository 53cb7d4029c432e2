// SPDX-License-Identifier: MIT
#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings.h"
#include "planner_options.h"

namespace lplb::python {
namespace {

/// Exchanges counts through a Python object: `post(mine)` takes [size] int64; `collect()` returns
/// [num_ranks, size] int64, or None if there are no counts. Without an object the other ranks count
/// nothing: if every rank has the same tokens, each then maps them as rank 0 alone would.
class PythonExchange : public Exchange {
 public:
  /// `rank`: this rank's number in the group.
  PythonExchange(Index num_ranks, Index rank) : num_ranks_(num_ranks), rank_(rank) {}
  Index num_ranks() const override { return num_ranks_; }
  Index rank() const override { return rank_; }
  void reserve(std::size_t) override {}

  /// Sets the object for the following calls. Null: none.
  void set(nb::handle peers) { peers_ = peers; }

  void post(const PackedLayout&, std::span<const Load> mine) override {
    posted.assign(mine.begin(), mine.end());
    if (peers_.ptr() == nullptr) return;
    const nb::gil_scoped_acquire acquire;
    peers_.attr("post")(to_array(posted));
  }

  /// Returns kTimedOut if there are no counts. Throws what Python raises.
  ExchangeStatus collect(std::span<Load> all) override {
    if (peers_.ptr() == nullptr) {
      std::fill(all.begin(), all.end(), 0);
    } else if (!collect_rows(all)) {
      return ExchangeStatus::kTimedOut;
    }
    const std::size_t at = posted.size() * static_cast<std::size_t>(rank_);
    std::copy(posted.begin(), posted.end(), all.begin() + static_cast<std::ptrdiff_t>(at));
    return ExchangeStatus::kComplete;
  }

  std::vector<Load> posted;  ///< the last batch's own counts: [PackedLayout::size()]

 private:
  bool collect_rows(std::span<Load> all) const {
    const nb::gil_scoped_acquire acquire;
    const nb::object found = peers_.attr("collect")();
    if (found.is_none()) return false;
    const auto rows = nb::cast<ArrayIn<Load>>(found);
    if (rows.ndim() != 2 || rows.size() != all.size()) {
      throw ExchangeError("the exchange delivered " + std::to_string(rows.size()) +
                          " counts, expected " + std::to_string(all.size()));
    }
    std::copy(rows.data(), rows.data() + rows.size(), all.begin());
    return true;
  }

  Index num_ranks_;
  Index rank_;
  nb::handle peers_;
};

/// The fields of Python's Quotas: quota_end, source_prefix, alloc, shares, solved, replicas.
using Tables =
    nb::typed<nb::tuple, ArrayOut<std::int32_t>, ArrayOut<std::int32_t>, ArrayOut<std::int32_t>,
              ArrayOut<float>, ArrayOut<std::int32_t>, ArrayOut<std::int32_t>>;

/// A layer's planner on the CPU. A call from another thread waits until the previous call has
/// returned.
class HostPlanner {
 public:
  /// `rank` is this rank in the placement, and `member` in the group of `num_members`.
  HostPlanner(const Placement& placement, Index rank, Index member, Index num_members,
              std::int64_t max_tokens, Index num_topk, const std::string& solver,
              std::int64_t max_steps, Index max_redundants, Index staleness, Index window,
              double decay, const CostModel* cost, const ReplicateOptions* copies)
      : rank_(rank),
        singles_(singles_of(cost, copies)),
        dynamic_slots_(copies == nullptr ? 0 : copies->dynamic_slots),
        exchange_(std::make_shared<PythonExchange>(num_members, member)),
        planner_(placement, rank_,
                 planner_options(max_tokens * num_topk, 1, solver, max_steps, max_redundants,
                                 staleness, cost, copies),
                 exchange_),
        history_(placement.num_logical_experts, {window, decay}),
        counts_(static_cast<std::size_t>(placement.num_logical_experts)) {}

  void run(std::uintptr_t topk_idx, int id_bytes, std::int64_t num_entries, std::int64_t num_valid,
           std::uintptr_t physical_idx, bool remember, nb::object exchange) {
    const nb::gil_scoped_release release;
    const std::lock_guard lock(mutex_);
    exchange_->set(exchange.is_none() ? nb::handle() : nb::handle(exchange));
    if (id_bytes == 8) {
      run_ids<std::int64_t>(topk_idx, num_entries, num_valid, physical_idx, remember);
    } else {
      run_ids<std::int32_t>(topk_idx, num_entries, num_valid, physical_idx, remember);
    }
  }

  void update_placement(const Placement& placement) {
    locked(mutex_, [&] {
      planner_.update_placement(placement);
      last_.reset();
    });
  }

  Facts stats() {
    PlannerStats s = locked(mutex_, [&] { return planner_.stats(); });
    // A late rank is an exception here, so a batch is degraded only if there were no counts.
    s.unplanned += std::exchange(s.degraded, 0);
    const double max_load = locked(mutex_, [&] { return planner_.last_split().max_load; });
    Facts d = planner_facts(s);
    d["copies"] = s.copies;
    d["last_max_load"] = s.solved == 0 ? 0 : max_load;
    return d;
  }

  /// The copies of the last batch, and is_new [num_ranks * S].
  nb::typed<nb::tuple, Replication, ArrayOut<std::uint8_t>> copies() {
    Replication plan;
    std::vector<std::uint8_t> is_new;
    locked(mutex_, [&] {
      plan = planner_.last_copies();
      is_new.assign(planner_.slot_is_new().begin(), planner_.slot_is_new().end());
    });
    return nb::make_tuple(std::move(plan), to_array(std::move(is_new)));
  }

  Tables quotas(Index max_replicas) {
    std::vector<std::int32_t> end, prefix, alloc, solved(1), replicas;
    std::vector<float> shares;
    std::size_t logical = 0, ranks = 0, columns = 0;
    locked(mutex_, [&] {
      if (!last_) throw ArgumentError("quotas", "no batch has run with this placement");
      const Placement& p = planner_.placement();
      logical = static_cast<std::size_t>(p.num_logical_experts);
      ranks = static_cast<std::size_t>(p.num_ranks);
      columns = static_cast<std::size_t>(std::max(max_replicas, p.max_replicas));
      end.resize(logical * columns);
      prefix.resize(logical);
      alloc.resize(ranks * logical);
      shares.resize(logical * columns);
      replicas.resize(logical * columns);
      write_last({max_replicas, end.data(), prefix.data(), alloc.data(), shares.data(),
                  solved.data(), replicas.data()});
    });
    return nb::make_tuple(to_array(std::move(end), {logical, columns}), to_array(std::move(prefix)),
                          to_array(std::move(alloc), {ranks, logical}),
                          to_array(std::move(shares), {logical, columns}),
                          to_array(std::move(solved)),
                          to_array(std::move(replicas), {logical, columns}));
  }

  ArrayOut<double> history() {
    return to_array(locked(mutex_, [&] { return history_.load(); }));
  }
  void clear_history() {
    locked(mutex_, [&] { history_.clear(); });
  }

 private:
  template <class Id>
  void run_ids(std::uintptr_t topk_idx, std::int64_t num_entries, std::int64_t num_valid,
               std::uintptr_t physical_idx, bool remember) {
    const auto valid = static_cast<std::size_t>(num_valid);
    const std::span<const Id> in(pointer<const Id>(topk_idx), valid);
    Id* const out = pointer<Id>(physical_idx);
    // NOTE: count before the run, which may write to where it reads from.
    if (remember) count_tokens(in, counts_);
    last_ = planner_.run(in, std::span<Id>(out, valid));
    std::fill(out + num_valid, out + num_entries, static_cast<Id>(-1));
    if (remember) history_.add(counts_);
  }

  /// Writes the split of the last batch.
  void write_last(const QuotaOutputs& outputs) const {
    const Placement& p = planner_.placement();
    const PackedLayout layout(p, singles_);
    const bool is_solved = *last_ == BatchStatus::kOptimal || *last_ == BatchStatus::kBounded;
    if (dynamic_slots_ > 0) {
      const Replication& copies = planner_.last_copies();
      if (is_solved) {
        write_quotas(p, layout, planner_.last_counts(), copies, rank_, outputs);
      } else {
        write_even_quotas(p, layout, exchange_->posted, copies, rank_, outputs);
      }
    } else if (is_solved) {
      write_quotas(p, layout, planner_.last_counts(), planner_.last_split().physical_load, rank_,
                   outputs);
    } else {
      write_even_quotas(p, layout, exchange_->posted, rank_, outputs);
    }
  }

  Index rank_;
  Singles singles_;
  Index dynamic_slots_;
  std::shared_ptr<PythonExchange> exchange_;
  Planner planner_;
  LoadHistory history_;
  std::vector<Load> counts_;
  std::optional<BatchStatus> last_;  // of the last batch; null: none with this placement
  std::mutex mutex_;
};

}  // namespace

void bind_planner(nb::module_& m) {
  nb::class_<HostPlanner>(m, "HostPlanner")
      .def(nb::init<const Placement&, Index, Index, Index, std::int64_t, Index, const std::string&,
                    std::int64_t, Index, Index, Index, double, const CostModel*,
                    const ReplicateOptions*>(),
           "placement"_a, "rank"_a, "member"_a, "num_members"_a, "max_tokens"_a, "num_topk"_a,
           "solver"_a, "max_steps"_a, "max_redundants"_a, "staleness"_a, "window"_a, "decay"_a,
           "cost"_a.none(), "copies"_a.none())
      .def("run", &HostPlanner::run, "topk_idx"_a, "id_bytes"_a, "num_entries"_a, "num_valid"_a,
           "physical_idx"_a, "remember"_a, "exchange"_a.none())
      .def("update_placement", &HostPlanner::update_placement, "placement"_a)
      .def("stats", &HostPlanner::stats)
      .def("copies", &HostPlanner::copies)
      .def("quotas", &HostPlanner::quotas, "max_replicas"_a)
      .def("history", &HostPlanner::history)
      .def("clear_history", &HostPlanner::clear_history);
}

}  // namespace lplb::python
