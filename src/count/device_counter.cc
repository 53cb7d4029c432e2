// SPDX-License-Identifier: MIT
#include "lplb/device_counter.h"

#include <algorithm>
#include <cstdint>

#include "core/check.h"
#include "core/device.h"
#include "count/device_counter.h"
#include "lplb/exchange.h"

namespace lplb {

struct DeviceCounter::State {
  State(const Placement& placement, Index redundants, const LoadHistoryOptions& given,
        Singles of_singles);

  void count(cudaStream_t stream, const DeviceBatch& batch, const CountOutputs& outputs);
  void put_layout(const Placement& placement, cudaStream_t stream);
  void clear(cudaStream_t stream);
  void check_placement(const Placement& next) const;

  Index num_ranks;
  Index num_logical;
  Index max_redundants;
  LoadHistoryOptions history;
  Singles singles;
  device::Array<count::CounterState> state;
  device::Array<std::int32_t> columns, totals, ring;
  device::Array<double> load;

 private:
  device::Staging<std::int32_t> staging_;  // `columns` [num_logical], then num_columns
  PackedLayout layout_;
};

namespace {

/// A launch has one block for each of this many entries, up to kMaxCounterBlocks.
constexpr std::int64_t kEntriesPerBlock = 4 * count::kCounterThreads;

}  // namespace

DeviceCounter::State::State(const Placement& placement, Index redundants,
                            const LoadHistoryOptions& given, Singles of_singles)
    : num_ranks(placement.num_ranks),
      num_logical(placement.num_logical_experts),
      max_redundants(redundants),
      history(given),
      singles(of_singles) {
  if (max_redundants == 0) max_redundants = placement.num_physical() - num_logical;
  check_history(history);
  check_placement(placement);
  const auto experts = static_cast<std::size_t>(num_logical);
  state.reserve(1);
  columns.reserve(experts);
  totals.reserve(experts);
  load.reserve(experts);
  ring.reserve(experts * static_cast<std::size_t>(history.window));
  staging_.reserve(experts + 1);
  const device::Stream stream;
  LPLB_CUDA_CHECK(cudaMemsetAsync(state.get(), 0, sizeof(count::CounterState), stream.get()));
  LPLB_CUDA_CHECK(cudaMemsetAsync(totals.get(), 0, experts * sizeof(std::int32_t), stream.get()));
  clear(stream.get());
  put_layout(placement, stream.get());
  LPLB_CUDA_CHECK(cudaStreamSynchronize(stream.get()));
}

void DeviceCounter::State::check_placement(const Placement& next) const {
  check_argument(next.num_ranks == num_ranks && next.num_logical_experts == num_logical,
                 "placement", "has {} ranks and {} logical experts, expected {} and {}",
                 next.num_ranks, next.num_logical_experts, num_ranks, num_logical);
  const Index redundants = next.num_physical() - next.num_logical_experts;
  check_argument(redundants <= max_redundants, "placement",
                 "has {} redundant slots, expected at most max_redundants ({})", redundants,
                 max_redundants);
}

void DeviceCounter::State::put_layout(const Placement& placement, cudaStream_t stream) {
  layout_.assign(placement, singles);
  std::int32_t* const column = staging_.next();
  std::copy(layout_.column.begin(), layout_.column.end(), column);
  column[layout_.home.size()] = static_cast<std::int32_t>(layout_.size());
  LPLB_CUDA_CHECK(cudaMemcpyAsync(columns.get(), column, layout_.home.size() * sizeof(std::int32_t),
                                  cudaMemcpyHostToDevice, stream));
  LPLB_CUDA_CHECK(cudaMemcpyAsync(&state.get()->num_columns, column + layout_.home.size(),
                                  sizeof(std::int32_t), cudaMemcpyHostToDevice, stream));
  staging_.sent(stream);
}

void DeviceCounter::State::clear(cudaStream_t stream) {
  const auto experts = static_cast<std::size_t>(num_logical);
  LPLB_CUDA_CHECK(cudaMemsetAsync(load.get(), 0, experts * sizeof(double), stream));
  LPLB_CUDA_CHECK(
      cudaMemsetAsync(&state.get()->num_batches, 0, sizeof(state.get()->num_batches), stream));
  if (history.window == 0) return;
  LPLB_CUDA_CHECK(cudaMemsetAsync(
      ring.get(), 0, experts * static_cast<std::size_t>(history.window) * sizeof(std::int32_t),
      stream));
}

void DeviceCounter::State::count(cudaStream_t stream, const DeviceBatch& batch,
                                 const CountOutputs& outputs) {
  check_argument(batch.id_bytes == 4 || batch.id_bytes == 8, "id_bytes", "{} is not 4 or 8",
                 batch.id_bytes);
  check_argument(batch.num_topk >= 1, "num_topk", "{} is not >= 1", batch.num_topk);
  const std::int64_t most_tokens = INT32_MAX / batch.num_topk;
  check_argument(batch.num_tokens >= 0 && batch.num_tokens <= most_tokens, "num_tokens",
                 "{} is not between 0 and {} (2^31 - 1 entries)", batch.num_tokens, most_tokens);
  check_argument(batch.num_tokens == 0 || batch.topk_idx != nullptr, "topk_idx",
                 "is null, expected {} tokens", batch.num_tokens);
  device::check_aligned(batch.topk_idx, static_cast<std::uintptr_t>(batch.id_bytes), "topk_idx");
  device::check_aligned(batch.num_valid_tokens, 4, "num_valid_tokens");
  device::check_aligned(outputs.counts, 4, "counts");
  device::check_aligned(outputs.packed, 4, "packed");
  const std::int64_t entries = batch.num_tokens * batch.num_topk;
  const std::int64_t helpful = (entries + kEntriesPerBlock - 1) / kEntriesPerBlock;
  count::CounterArgs args{};
  args.topk_idx = batch.topk_idx;
  args.num_valid_tokens = batch.num_valid_tokens;
  args.id_bytes = batch.id_bytes;
  args.num_topk = batch.num_topk;
  args.num_tokens = static_cast<int>(batch.num_tokens);
  args.num_logical = num_logical;
  args.window = history.window;
  args.decay = history.decay;
  args.state = state.get();
  args.columns = columns.get();
  args.totals = totals.get();
  args.load = load.get();
  args.ring = ring.get();
  args.counts = outputs.counts;
  args.packed = outputs.packed;
  args.remember = outputs.remember;
  count::launch_counter(
      args, static_cast<int>(std::clamp<std::int64_t>(helpful, 1, count::kMaxCounterBlocks)),
      stream);
}

DeviceCounter::DeviceCounter(const Placement& placement, Index max_redundants,
                             const LoadHistoryOptions& history, Singles singles) {
  device::require();  // first: its message says more than a failure to make the state's events
  state_ = std::make_unique<State>(placement, max_redundants, history, singles);
}
DeviceCounter::~DeviceCounter() = default;
DeviceCounter::DeviceCounter(DeviceCounter&&) noexcept = default;
DeviceCounter& DeviceCounter::operator=(DeviceCounter&&) noexcept = default;

void DeviceCounter::count(StreamHandle stream, const DeviceBatch& batch,
                          const CountOutputs& outputs) {
  state_->count(static_cast<cudaStream_t>(stream), batch, outputs);
}

void DeviceCounter::update_placement(StreamHandle stream, const Placement& placement) {
  state_->check_placement(placement);
  device::check_no_capture(static_cast<cudaStream_t>(stream), "an update");
  state_->put_layout(placement, static_cast<cudaStream_t>(stream));
}

const double* DeviceCounter::history() const { return state_->load.get(); }

void DeviceCounter::clear_history(StreamHandle stream) {
  state_->clear(static_cast<cudaStream_t>(stream));
}

}  // namespace lplb
