// SPDX-License-Identifier: MIT
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/tuple.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>

#include "bindings.h"
#include "planner_options.h"
#include "solve/device/kept_shares.h"

namespace lplb::python {
namespace {

DeviceBatch to_batch(std::uintptr_t topk_idx, int id_bytes, std::int64_t num_tokens, Index num_topk,
                     std::uintptr_t num_valid_tokens) {
  DeviceBatch batch;
  batch.topk_idx = pointer<const void>(topk_idx);
  batch.id_bytes = id_bytes;
  batch.num_tokens = num_tokens;
  batch.num_topk = num_topk;
  batch.num_valid_tokens = pointer<const std::int32_t>(num_valid_tokens);
  return batch;
}

Facts to_dict(const DevicePlannerStats& s) {
  Facts d = planner_facts(s);
  d["overflows"] = s.overflows;
  d["bad_counts"] = s.bad_counts;
  d["bad_valid"] = s.bad_valid;
  d["lost"] = s.lost;
  d["check_failures"] = s.check_failures;
  d["copies"] = s.copies;
  d["last_max_load"] = static_cast<double>(s.last_max_load);
  return d;
}

Facts to_dict(const DeviceExchangeStats& s) {
  Facts d;
  d["rounds"] = s.rounds;
  d["complete"] = s.complete();
  d["timed_out"] = s.timed_out;
  d["behind"] = s.behind;
  d["mismatched"] = s.mismatched;
  d["last_missing"] = s.last_missing;
  return d;
}

/// A layer's planner on a GPU, and its counter. Calls are short. A call from another thread waits
/// until the previous call has returned.
class GpuPlanner {
 public:
  GpuPlanner(const Placement& placement, Index rank, Index num_members, std::int64_t max_tokens,
             Index num_topk, const std::string& solver, std::int64_t max_steps,
             Index max_redundants, Index staleness, Index window, double decay,
             const CostModel* cost, bool keeps_split, bool checks,
             std::shared_ptr<DeviceExchange> channel, const ReplicateOptions* copies)
      : channel_(std::move(channel)),
        planner_(placement, rank,
                 planner_options(max_tokens, num_topk, solver, max_steps, max_redundants, staleness,
                                 cost, copies),
                 {.checks = checks,
                  .keeps_split = keeps_split,
                  .exchange = channel_,
                  .num_members = num_members}),
        counter_(placement, max_redundants, {window, decay}, singles_of(cost, copies)) {}

  void run(std::uintptr_t stream, std::uintptr_t topk_idx, int id_bytes, std::int64_t num_tokens,
           Index num_topk, std::uintptr_t num_valid_tokens, std::uintptr_t physical_idx,
           std::uintptr_t all_counts, std::uintptr_t packed, std::uintptr_t counter,
           int counter_bytes, Index counter_step) {
    DeviceBatch batch = to_batch(topk_idx, id_bytes, num_tokens, num_topk, num_valid_tokens);
    batch.physical_idx = pointer<void>(physical_idx);
    batch.all_counts = pointer<const std::int32_t>(all_counts);
    batch.packed = pointer<std::int32_t>(packed);
    batch.counter = pointer<void>(counter);
    batch.counter_bytes = counter_bytes;
    batch.counter_step = counter_step;
    locked(mutex_, [&] { planner_.run(pointer<void>(stream), batch); });
  }

  void count(std::uintptr_t stream, std::uintptr_t topk_idx, int id_bytes, std::int64_t num_tokens,
             Index num_topk, std::uintptr_t num_valid_tokens, std::uintptr_t packed,
             bool remember) {
    const DeviceBatch batch = to_batch(topk_idx, id_bytes, num_tokens, num_topk, num_valid_tokens);
    locked(mutex_, [&] {
      counter_.count(pointer<void>(stream), batch,
                     {.packed = pointer<std::int32_t>(packed), .remember = remember});
    });
  }

  void quotas(std::uintptr_t stream, std::uintptr_t all_counts, Index max_replicas,
              std::uintptr_t quota_end, std::uintptr_t source_prefix, std::uintptr_t alloc,
              std::uintptr_t shares, std::uintptr_t solved, std::uintptr_t replicas) {
    locked(mutex_, [&] {
      planner_.write_quotas(
          pointer<void>(stream), pointer<const std::int32_t>(all_counts),
          {max_replicas, pointer<std::int32_t>(quota_end), pointer<std::int32_t>(source_prefix),
           pointer<std::int32_t>(alloc), pointer<float>(shares), pointer<std::int32_t>(solved),
           pointer<std::int32_t>(replicas)});
    });
  }

  void update_placement(std::uintptr_t stream, const Placement& placement) {
    locked(mutex_, [&] {
      planner_.update_placement(pointer<void>(stream), placement);
      counter_.update_placement(pointer<void>(stream), placement);
    });
  }

  Facts stats(std::uintptr_t stream) {
    return to_dict(locked(mutex_, [&] { return planner_.stats(pointer<void>(stream)); }));
  }
  std::optional<Facts> poll_stats(std::uintptr_t stream) {
    const auto stats = locked(mutex_, [&] { return planner_.poll_stats(pointer<void>(stream)); });
    if (!stats) return std::nullopt;
    return to_dict(*stats);
  }

  /// The planner must have a channel.
  Facts exchange_stats(std::uintptr_t stream) {
    return to_dict(locked(mutex_, [&] { return channel_->stats(pointer<void>(stream)); }));
  }

  /// The addresses of slot_expert, slot_source and slot_is_new; 0 without dynamic slots.
  std::tuple<std::uintptr_t, std::uintptr_t, std::uintptr_t> copies() const {
    const DeviceCopies copies = planner_.copies();
    const auto address = [](const std::int32_t* array) {
      return reinterpret_cast<std::uintptr_t>(array);
    };
    return {address(copies.slot_expert), address(copies.slot_source), address(copies.slot_is_new)};
  }

  std::uintptr_t history() const { return reinterpret_cast<std::uintptr_t>(counter_.history()); }
  void clear_history(std::uintptr_t stream) {
    locked(mutex_, [&] { counter_.clear_history(pointer<void>(stream)); });
  }

 private:
  std::shared_ptr<DeviceExchange> channel_;
  DevicePlanner planner_;
  DeviceCounter counter_;
  std::mutex mutex_;
};

/// The shares of deepseek-ai/LPLB's solve_probs() on the current GPU.
class KeptShares {
 public:
  KeptShares(const Placement& placement, Index num_shares, const ArrayIn<Index>& original,
             const ArrayIn<Index>& combined)
      : shares_(placement, {num_shares, span_of(original), span_of(combined)}) {}

  void run(std::uintptr_t stream, std::uintptr_t load, std::uintptr_t share, std::uintptr_t scaled,
           std::uintptr_t counter, int counter_bytes, int step) {
    locked(mutex_, [&] {
      shares_.run(pointer<void>(stream), pointer<const std::int32_t>(load),
                  {pointer<float>(share), pointer<float>(scaled), pointer<void>(counter),
                   counter_bytes, step});
    });
  }

 private:
  solvers::KeptShares shares_;
  std::mutex mutex_;
};

Facts cuda_info() {
  const CudaSupport& cuda = cuda_support();
  Facts d;
  d["compiled"] = cuda.compiled;
  d["architectures"] = cuda.architectures;
  d["toolkit"] = cuda.toolkit;
  d["driver"] = cuda.driver;
  d["missing"] = cuda.missing;
  nb::list devices;
  for (const CudaDevice& device : cuda.devices) devices.append(device.name);
  d["devices"] = devices;
  return d;
}

}  // namespace

void bind_device(nb::module_& m) {
  m.def("cuda_info", &cuda_info);
  nb::class_<GpuPlanner>(m, "GpuPlanner")
      .def(nb::init<const Placement&, Index, Index, std::int64_t, Index, const std::string&,
                    std::int64_t, Index, Index, Index, double, const CostModel*, bool, bool,
                    std::shared_ptr<DeviceExchange>, const ReplicateOptions*>(),
           "placement"_a, "rank"_a, "num_members"_a, "max_tokens"_a, "num_topk"_a, "solver"_a,
           "max_steps"_a, "max_redundants"_a, "staleness"_a, "window"_a, "decay"_a, "cost"_a.none(),
           "keeps_split"_a, "checks"_a, "channel"_a.none(), "copies"_a.none())
      .def("run", &GpuPlanner::run, "stream"_a, "topk_idx"_a, "id_bytes"_a, "num_tokens"_a,
           "num_topk"_a, "num_valid_tokens"_a, "physical_idx"_a, "all_counts"_a, "packed"_a,
           "counter"_a = 0, "counter_bytes"_a = 4, "counter_step"_a = 1)
      .def("count", &GpuPlanner::count, "stream"_a, "topk_idx"_a, "id_bytes"_a, "num_tokens"_a,
           "num_topk"_a, "num_valid_tokens"_a, "packed"_a, "remember"_a)
      .def("quotas", &GpuPlanner::quotas, "stream"_a, "all_counts"_a, "max_replicas"_a,
           "quota_end"_a, "source_prefix"_a, "alloc"_a, "shares"_a, "solved"_a, "replicas"_a)
      .def("update_placement", &GpuPlanner::update_placement, "stream"_a, "placement"_a)
      .def("stats", &GpuPlanner::stats, "stream"_a)
      .def("poll_stats", &GpuPlanner::poll_stats, "stream"_a)
      .def("exchange_stats", &GpuPlanner::exchange_stats, "stream"_a)
      .def("copies", &GpuPlanner::copies)
      .def_prop_ro("history", &GpuPlanner::history)
      .def("clear_history", &GpuPlanner::clear_history, "stream"_a);
  nb::class_<KeptShares>(m, "KeptShares")
      .def(nb::init<const Placement&, Index, const ArrayIn<Index>&, const ArrayIn<Index>&>(),
           "placement"_a, "num_shares"_a, "original"_a, "combined"_a)
      .def("run", &KeptShares::run, "stream"_a, "load"_a, "share"_a, "scaled"_a, "counter"_a,
           "counter_bytes"_a, "step"_a);
}

}  // namespace lplb::python
