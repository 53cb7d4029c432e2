// SPDX-License-Identifier: MIT
#include "lplb/device_planner.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/check.h"
#include "core/slices.h"
#include "lplb/backend.h"
#include "plan/copies.h"
#include "plan/device/quotas_kernel.h"
#include "plan/device/state.h"

namespace lplb {
namespace {

/// If a batch has more entries than this for each block, more blocks are used.
constexpr std::int64_t kEntriesPerBlock = 8 * plan::kThreads;

}  // namespace

Index DevicePlanner::State::topk_of(const DeviceBatch& batch) const {
  return batch.num_topk == 0 ? options.num_topk : batch.num_topk;
}

int DevicePlanner::State::blocks_for(std::int64_t entries) const {
  int blocks = 1;
  while (blocks < device_options.max_blocks && entries > blocks * kEntriesPerBlock) blocks *= 2;
  return blocks;
}

void DevicePlanner::State::check_batch(const DeviceBatch& batch) const {
  check_argument(batch.id_bytes == 4 || batch.id_bytes == 8, "id_bytes", "{} is not 4 or 8",
                 batch.id_bytes);
  check_argument(batch.num_topk >= 0, "num_topk", "{} is not >= 0", batch.num_topk);
  const std::int64_t most_tokens = options.max_tokens * options.num_topk / topk_of(batch);
  check_argument(batch.num_tokens >= 0 && batch.num_tokens <= most_tokens, "num_tokens",
                 "{} is not between 0 and max_tokens ({})", batch.num_tokens, most_tokens);
  check_argument(batch.num_tokens == 0 || batch.topk_idx != nullptr, "topk_idx",
                 "is null, expected {} tokens", batch.num_tokens);
  check_argument(batch.num_tokens == 0 || batch.physical_idx != nullptr, "physical_idx",
                 "is null, expected room for {} tokens", batch.num_tokens);
  check_argument(batch.target_rank == nullptr || batch.target_rank != batch.physical_idx,
                 "target_rank", "is the same memory as physical_idx");
  const auto width = static_cast<std::uintptr_t>(batch.id_bytes);
  device::check_aligned(batch.topk_idx, width, "topk_idx");
  device::check_aligned(batch.physical_idx, width, "physical_idx");
  device::check_aligned(batch.target_rank, width, "target_rank");
  device::check_aligned(batch.num_valid_tokens, 4, "num_valid_tokens");
  device::check_aligned(batch.all_counts, 4, "all_counts");
  check_counts(batch.all_counts);
  device::check_aligned(batch.packed, 4, "packed");
  check_argument(batch.packed == nullptr || (is_stale() && device_options.exchange == nullptr),
                 "packed", "is given, expected null: {}",
                 is_stale() ? "the planner has an exchange" : "staleness is 0");
  check_argument(batch.counter_bytes == 4 || batch.counter_bytes == 8, "counter_bytes",
                 "{} is not 4 or 8", batch.counter_bytes);
  device::check_aligned(batch.counter, static_cast<std::uintptr_t>(batch.counter_bytes), "counter");
}

void DevicePlanner::State::check_counts(const std::int32_t* all_counts) const {
  check_argument(all_counts == nullptr || device_options.exchange == nullptr, "all_counts",
                 "is given, expected null: the planner has an exchange");
}

plan::Args DevicePlanner::State::args_of(const DeviceBatch& batch) const {
  plan::Args args{};
  args.topk_idx = batch.topk_idx;
  args.physical_idx = batch.physical_idx;
  args.target_rank = batch.target_rank;
  args.num_valid_tokens = batch.num_valid_tokens;
  args.all_counts = batch.all_counts;
  args.id_bytes = batch.id_bytes;
  args.num_topk = topk_of(batch);
  args.num_tokens = static_cast<int>(batch.num_tokens);
  args.rank = rank;
  args.row = row_;
  args.max_steps = solvers::device_steps(placement.num_ranks, options.solve.max_steps);
  args.num_entries = args.num_tokens * args.num_topk;
  args.num_blocks = blocks_for(args.num_entries);
  args.stretch =
      device::kWarpSize * device::slices_per_warp(args.num_entries, args.num_blocks * plan::kWarps);
  args.image = device_image_.get();
  args.status = status_.get();
  args.block_totals = block_totals_.get();
  args.segments = segments_.get();
  args.layout = layout_;
  if (device_options.exchange != nullptr) {
    if (peers_ != nullptr) args.peers = *peers_;
    args.gathered = gathered_.get();
    args.all_counts = args.gathered;
  }
  if (is_stale()) {
    args.previous = previous_.get();
    args.packed = device_options.exchange != nullptr ? mine_.get() : batch.packed;
  }
  if (device_options.checks || device_options.keeps_split) {
    args.trace = trace();
  }
  args.copies = dynamic_.args;
  args.copy_state = dynamic_.state;
  args.counter = batch.counter;
  args.counter_bytes = batch.counter_bytes;
  args.counter_step = batch.counter_step;
  return args;
}

plan::Trace DevicePlanner::State::trace() const {
  const Checks& c = checks_;
  return {c.own.get(),   c.quota.get(),    c.group.get(),
          c.state.get(), c.physical.get(), c.replica_begin.get()};
}

void DevicePlanner::State::run(cudaStream_t stream, const DeviceBatch& batch) {
  check_batch(batch);
  const plan::Args args = args_of(batch);
  if (background_ != nullptr) {
    join(stream);
  } else if (device_options.exchange != nullptr && peers_ == nullptr) {
    plan::launch_count({args, mine_.get()}, stream);
    gather(stream);
  }
  if (shape == PlanShape::kCluster) {
    plan::launch_cluster(args, is_cut_, stream);
  } else {
    plan::launch_kernels(args, is_cut_, starts_early_, stream);
  }
  if (device_options.checks) plan::launch_check(check_args(args), stream);
  if (background_ != nullptr) gather_in_background(stream);
}

/// Gathers the counts of all ranks; this rank's are in mine_.
void DevicePlanner::State::gather(cudaStream_t stream) {
  device_options.exchange->all_gather(stream, {.mine = mine_.get(),
                                               .all = gathered_.get(),
                                               .num_counts = image.layout().size(),
                                               .fingerprint = image.fingerprint()});
}

/// Like gather(), on a stream of its own, after the plan that has counted.
void DevicePlanner::State::gather_in_background(cudaStream_t stream) {
  if (device_options.keeps_split) {
    LPLB_CUDA_CHECK(cudaMemcpyAsync(previous_counts_.get(), gathered_.get(),
                                    gathered_.capacity() * sizeof(int), cudaMemcpyDeviceToDevice,
                                    stream));
  }
  Background& b = *background_;
  b.planned.record(stream);
  b.planned.hold(b.stream.get());
  gather(b.stream.get());
  b.gathered.record(b.stream.get());
  b.capture = device::capture_of(stream);
  b.is_under_way = true;
}

void DevicePlanner::State::join(cudaStream_t stream) {
  if (background_ == nullptr || !background_->is_under_way) return;
  const unsigned long long capture = device::capture_of(stream);
  check_argument(capture == 0 || background_->capture != 0, "stream",
                 "is being captured, expected join() between the previous batch and the capture");
  // If the capture of the round has ended, its round has ended too.
  if (capture == background_->capture) background_->gathered.hold(stream);
  background_->is_under_way = false;
}

void DevicePlanner::State::count(cudaStream_t stream, const DeviceBatch& batch, int* packed) {
  check_batch(batch);
  check_argument(packed != nullptr, "packed", "is null, expected room for {} counts",
                 image.layout().size());
  plan::launch_count({args_of(batch), packed}, stream);
}

void DevicePlanner::State::check(cudaStream_t stream, const DeviceBatch& batch) {
  check_argument(device_options.checks, "checks", "is false, expected true");
  check_batch(batch);
  plan::launch_check(check_args(args_of(batch)), stream);
}

plan::CheckArgs DevicePlanner::State::check_args(const plan::Args& args) const {
  return {args,
          checks_.taken.get(),
          checks_.met.get(),
          checks_.rank_load.get(),
          checks_.counts.get(),
          checks_.segments.get(),
          limits_.max_redundants + 1};
}

void DevicePlanner::State::update_placement(cudaStream_t stream, const Placement& next) {
  check_placement(next);
  device::check_no_capture(stream, "an update");
  placement = next;
  make_image();
  put_image(stream);
}

void DevicePlanner::State::write_quotas(cudaStream_t stream, const std::int32_t* all_counts,
                                        const QuotaOutputs& outputs) const {
  check_argument(device_options.keeps_split, "keeps_split", "is false, expected true");
  device::check_aligned(all_counts, 4, "all_counts");
  check_counts(all_counts);
  plan::check_quota_outputs(placement, options.dynamic_slots, outputs);
  const int* const gathered = background_ != nullptr ? previous_counts_.get() : gathered_.get();
  const int* const counts = device_options.exchange != nullptr ? gathered : all_counts;
  plan::launch_quotas({device_image_.get(), counts,
                       is_stale() || counts != nullptr ? rank : 0,  // the same rank as in the map
                       counts != nullptr ? row_ : 0, trace(), outputs},
                      placement.num_logical_experts, stream);
}

void DevicePlanner::State::put_image(cudaStream_t stream) {
  unsigned char* const bytes = staging_.next();
  const std::size_t size = image.bytes().size();
  std::memcpy(bytes, image.bytes().data(), size);
  LPLB_CUDA_CHECK(
      cudaMemcpyAsync(device_image_.get(), bytes, size, cudaMemcpyHostToDevice, stream));
  staging_.sent(stream);
  if (has_copies()) put_copies(stream);
}

/// The same for the image of replicate/device. The dynamic slots are empty then.
void DevicePlanner::State::put_copies(cudaStream_t stream) {
  Dynamic& d = dynamic_;
  unsigned char* const bytes = d.staging.next();
  std::memcpy(bytes, d.bytes.data(), d.bytes.size());
  LPLB_CUDA_CHECK(
      cudaMemcpyAsync(d.image.get(), bytes, d.bytes.size(), cudaMemcpyHostToDevice, stream));
  d.staging.sent(stream);
  LPLB_CUDA_CHECK(cudaMemsetAsync(
      d.state.held, 0xFF, static_cast<std::size_t>(limits_.num_dynamic()) * sizeof(int), stream));
}

/// Makes the image of `placement`, to be put.
void DevicePlanner::State::make_image() {
  if (!has_copies()) {
    image.assign(placement, is_cut_ ? Solver::kCut : Solver::kFlow, num_members_,
                 options.solve.cost);
    return;
  }
  image.assign_with_copies(placement, num_members_, options.dynamic_slots,
                           plan::fingerprint_of(plan::copy_options(options)));
  replicas::write_copy_image(placement, dynamic_.args.sizes, dynamic_.args.layout, dynamic_.bytes);
}

DevicePlannerStats DevicePlanner::State::read(const plan::Status& s, Index num_live_ranks) {
  const auto count = [](unsigned long long n) { return static_cast<std::int64_t>(n); };
  DevicePlannerStats stats;
  stats.batches = count(s.batches);
  stats.solved = count(s.solved);
  stats.optimal = count(s.optimal);
  stats.degraded = count(s.degraded);
  stats.unplanned = count(s.unplanned);
  stats.out_of_range = count(s.out_of_range);
  stats.overflows = count(s.overflows);
  stats.bad_counts = count(s.bad_counts);
  stats.lost = count(s.lost);
  stats.bad_valid = count(s.bad_valid);
  stats.check_failures = count(s.check_failures);
  stats.last_status = s.last_outcome == plan::kUnplanned      ? BatchStatus::kUnplanned
                      : s.last_outcome == plan::kDegraded     ? BatchStatus::kDegraded
                      : s.batches == 0 || s.last_optimal != 0 ? BatchStatus::kOptimal
                                                              : BatchStatus::kBounded;
  stats.last_max_load = s.last_max_load;
  stats.last_lower_bound = s.last_bound;
  stats.last_total = s.last_total;
  stats.last_steps = s.last_steps;
  stats.copies = count(s.copies);
  stats.last_max_cost = static_cast<double>(s.last_max_cost) / kCostsPerUnit;
  stats.last_cost_lower_bound = static_cast<double>(s.last_cost_bound) / kCostsPerUnit;
  if (s.last_total > 0) {
    stats.last_imbalance =
        static_cast<double>(s.last_max_load) * num_live_ranks / static_cast<double>(s.last_total);
  }
  return stats;
}

DevicePlannerStats DevicePlanner::State::stats(cudaStream_t stream) {
  device::check_no_capture(stream, "stats()");
  plan::Status* const host = host_status_.get();
  LPLB_CUDA_CHECK(
      cudaMemcpyAsync(host, status_.get(), sizeof(plan::Status), cudaMemcpyDeviceToHost, stream));
  LPLB_CUDA_CHECK(cudaStreamSynchronize(stream));
  return read(*host, placement.num_live_ranks());
}

std::optional<DevicePlannerStats> DevicePlanner::State::poll_stats(cudaStream_t stream) {
  device::check_no_capture(stream, "poll_stats()");
  plan::Status* const host = host_status_.get() + 1;
  if (is_polling_ && polled_.has_passed()) {
    last_polled_ = read(*host, placement.num_live_ranks());
    is_polling_ = false;
  }
  if (!is_polling_) {
    LPLB_CUDA_CHECK(
        cudaMemcpyAsync(host, status_.get(), sizeof(plan::Status), cudaMemcpyDeviceToHost, stream));
    polled_.record(stream);
    is_polling_ = true;
  }
  return last_polled_;
}

DevicePlanner::DevicePlanner(const Placement& placement, Index rank, const PlannerOptions& options,
                             const DevicePlannerOptions& device_options) {
  device::require();  // first, because an error of the state's events would say less
  state_ = std::make_unique<State>(placement, rank, options, device_options);
}
DevicePlanner::~DevicePlanner() = default;
DevicePlanner::DevicePlanner(DevicePlanner&&) noexcept = default;
DevicePlanner& DevicePlanner::operator=(DevicePlanner&&) noexcept = default;

void DevicePlanner::run(StreamHandle stream, const DeviceBatch& batch) {
  state_->run(static_cast<cudaStream_t>(stream), batch);
}
void DevicePlanner::join(StreamHandle stream) { state_->join(static_cast<cudaStream_t>(stream)); }
void DevicePlanner::count(StreamHandle stream, const DeviceBatch& batch, std::int32_t* packed) {
  state_->count(static_cast<cudaStream_t>(stream), batch, packed);
}
void DevicePlanner::check(StreamHandle stream, const DeviceBatch& batch) {
  state_->check(static_cast<cudaStream_t>(stream), batch);
}
void DevicePlanner::write_quotas(StreamHandle stream, const std::int32_t* all_counts,
                                 const QuotaOutputs& outputs) {
  state_->write_quotas(static_cast<cudaStream_t>(stream), all_counts, outputs);
}
void DevicePlanner::update_placement(StreamHandle stream, const Placement& placement) {
  state_->update_placement(static_cast<cudaStream_t>(stream), placement);
}
DevicePlannerStats DevicePlanner::stats(StreamHandle stream) {
  return state_->stats(static_cast<cudaStream_t>(stream));
}
std::optional<DevicePlannerStats> DevicePlanner::poll_stats(StreamHandle stream) {
  return state_->poll_stats(static_cast<cudaStream_t>(stream));
}

DeviceCopies DevicePlanner::copies() const { return state_->copies(); }

const Placement& DevicePlanner::placement() const { return state_->placement; }
const PackedLayout& DevicePlanner::layout() const { return state_->image.layout(); }
PlanShape DevicePlanner::shape() const { return state_->shape; }
int DevicePlanner::num_blocks(std::int64_t num_tokens) const {
  return state_->blocks_for(num_tokens * state_->options.num_topk);
}

}  // namespace lplb
