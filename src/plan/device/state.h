// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/device.h"
#include "lplb/device_planner.h"
#include "plan/device/launch.h"

namespace lplb {

/// All memory of a planner on the device. It is allocated once, for the planner's limits.
struct DevicePlanner::State {
  State(const Placement& first, Index own_rank, const PlannerOptions& given,
        const DevicePlannerOptions& on_device);

  void run(cudaStream_t stream, const DeviceBatch& batch);
  void count(cudaStream_t stream, const DeviceBatch& batch, int* packed);
  void check(cudaStream_t stream, const DeviceBatch& batch);
  void update_placement(cudaStream_t stream, const Placement& next);
  DevicePlannerStats stats(cudaStream_t stream);
  std::optional<DevicePlannerStats> poll_stats(cudaStream_t stream);
  void write_quotas(cudaStream_t stream, const std::int32_t* all_counts,
                    const QuotaOutputs& outputs) const;
  void join(cudaStream_t stream);
  int blocks_for(std::int64_t entries) const;

  Index rank;
  PlannerOptions options;
  DevicePlannerOptions device_options;
  bool is_stale() const { return options.staleness != 0; }
  bool has_copies() const { return options.dynamic_slots > 0; }
  DeviceCopies copies() const {
    const plan::CopyState& state = dynamic_.state;
    return {state.slot_expert, state.slot_source, state.is_new};
  }
  PlanShape shape = PlanShape::kAuto;
  Placement placement;
  plan::Image image;

 private:
  /// With staleness and an exchange that is not in the kernel: rounds run on their own stream, in
  /// parallel with the batches.
  struct Background {
    device::Stream stream;
    device::Event planned, gathered;
    unsigned long long capture = 0;  // the capture that the round under way belongs to; 0: none
    bool is_under_way = false;
  };
  struct Checks {  // the first four are also used if the split is kept
    device::Array<int> own, quota, group, state, taken, met, rank_load, counts;
    device::Array<plan::Segment> segments;
    device::Array<int> physical;  // with dynamic slots, as the next one
    device::Array<std::uint16_t> replica_begin;
  };

  /// With dynamic slots.
  struct Dynamic {
    replicas::CopyArgs args;
    plan::CopyState state;
    device::Array<std::int32_t> slots;  // what `state` points to
    device::Array<unsigned char> image;
    device::Staging<unsigned char> staging;
    std::vector<unsigned char> bytes;
  };

  void check_options() const;
  void check_copies() const;
  void lay_out_copies(std::int64_t most_bytes);
  void allocate_copies();
  void make_image();
  void put_copies(cudaStream_t stream);
  void check_costs() const;
  void find_members();
  void check_exchange();
  void check_placement(const Placement& next) const;
  void check_batch(const DeviceBatch& batch) const;
  void check_counts(const std::int32_t* all_counts) const;
  Index topk_of(const DeviceBatch& batch) const;
  void allocate();
  void put_image(cudaStream_t stream);
  void gather(cudaStream_t stream);
  void gather_in_background(cudaStream_t stream);
  plan::Args args_of(const DeviceBatch& batch) const;
  plan::Trace trace() const;
  plan::CheckArgs check_args(const plan::Args& args) const;
  static DevicePlannerStats read(const plan::Status& status, Index num_live_ranks);

  Index num_members_ = 0;  // the ranks of the group
  Index row_ = 0;          // this rank's row of the counts
  plan::Limits limits_{};
  plan::Layout layout_{};
  bool is_cut_ = false;
  bool starts_early_ = false;
  device::Array<unsigned char> device_image_;
  device::Array<plan::Status> status_;
  device::Array<int> block_totals_;
  const exchange::PeerArgs* peers_ = nullptr;  // null: no exchange in the kernel
  device::Array<int> gathered_, mine_;  // with an exchange: the counts of all ranks; of this one
  device::Array<plan::Previous> previous_;  // with staleness
  /// A copy of gathered_ for write_quotas(), because a round in parallel may overwrite gathered_.
  device::Array<int> previous_counts_;
  std::unique_ptr<Background> background_;
  device::Array<plan::Segment> segments_;
  device::Staging<unsigned char> staging_;
  device::HostArray<plan::Status> host_status_;  // [0] for stats(), [1] for poll_stats()
  device::Event polled_;
  bool is_polling_ = false;
  std::optional<DevicePlannerStats> last_polled_;
  Checks checks_;
  Dynamic dynamic_{};
};

}  // namespace lplb
