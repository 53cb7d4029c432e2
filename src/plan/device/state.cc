// SPDX-License-Identifier: MIT
#include "plan/device/state.h"

#include <algorithm>
#include <bit>

#include "core/check.h"
#include "core/cost_curve.h"
#include "core/slices.h"
#include "exchange/peer/memory.h"
#include "plan/limits.h"
#include "plan/members.h"

namespace lplb {

DevicePlanner::State::State(const Placement& first, Index own_rank, const PlannerOptions& given,
                            const DevicePlannerOptions& on_device)
    : rank(own_rank), options(given), device_options(on_device), placement(first) {
  if (options.max_redundants == 0) {
    options.max_redundants = first.num_physical() - first.num_logical_experts;
  }
  check_options();
  plan::set_cost(options);
  find_members();
  check_placement(placement);
  limits_ = {first.num_ranks, first.num_logical_experts, options.max_redundants, options.solve.cost,
             options.dynamic_slots};
  is_cut_ = options.solve.solver == Solver::kCut ||
            (options.solve.solver != Solver::kFlow && first.num_ranks <= kMaxCutRanks);
  const std::int64_t most_bytes = plan::most_shared_bytes();
  if (has_copies()) lay_out_copies(most_bytes);
  layout_ = plan::lay_out(limits_, options.max_tokens * options.num_topk, device_options.max_blocks,
                          most_bytes, dynamic_.args.layout.bytes);
  dynamic_.args.layout.offset = layout_.copies;
  check_argument(layout_.bytes <= most_bytes, "max_redundants",
                 "{} with {} ranks takes {} bytes of a block's shared memory, expected at most {}",
                 options.max_redundants, first.num_ranks, layout_.bytes, most_bytes);
  const auto shared_bytes = static_cast<std::size_t>(layout_.bytes);
  const plan::KernelSet set = is_stale()                         ? plan::KernelSet::kStale
                              : options.cost                     ? plan::KernelSet::kCost
                              : dynamic_.args.sizes.is_general() ? plan::KernelSet::kDomainCopies
                              : has_copies()                     ? plan::KernelSet::kCopies
                                                                 : plan::KernelSet::kExact;
  plan::prepare(shared_bytes, set);
  starts_early_ = plan::can_start_early();
  const bool clusters =
      plan::has_clusters(blocks_for(options.max_tokens * options.num_topk), shared_bytes, set);
  shape = device_options.shape;
  check_argument(shape != PlanShape::kCluster || clusters, "shape",
                 "is kCluster, but the device has no room for a cluster of {} blocks",
                 blocks_for(options.max_tokens * options.num_topk));
  check_argument(!has_copies() || clusters, "dynamic_slots",
                 "is {}, expected 0: the device has no room for a cluster of {} blocks",
                 options.dynamic_slots, blocks_for(options.max_tokens * options.num_topk));
  if (shape == PlanShape::kAuto) shape = clusters ? PlanShape::kCluster : PlanShape::kKernels;
  check_exchange();
  allocate();
  make_image();
  device::Stream stream;
  LPLB_CUDA_CHECK(cudaMemsetAsync(status_.get(), 0, sizeof(plan::Status), stream.get()));
  // NOTE: kernels copy a fixed number of bytes of it, which may be more than an image has. What
  // lies beyond the image is never used.
  LPLB_CUDA_CHECK(
      cudaMemsetAsync(device_image_.get(), 0, plan::max_image_bytes(limits_), stream.get()));
  if (is_stale()) {
    LPLB_CUDA_CHECK(cudaMemsetAsync(previous_.get(), 0, sizeof(plan::Previous), stream.get()));
    // NOTE: if there is no previous batch, kernels copy these counts, but do not use them.
    if (gathered_.capacity() > 0) {
      LPLB_CUDA_CHECK(
          cudaMemsetAsync(gathered_.get(), 0, gathered_.capacity() * sizeof(int), stream.get()));
    }
  }
  put_image(stream.get());
  LPLB_CUDA_CHECK(cudaStreamSynchronize(stream.get()));
}

void DevicePlanner::State::check_options() const {
  check_argument(rank >= 0 && rank < placement.num_ranks, "rank", "{} is not between 0 and {}",
                 rank, placement.num_ranks - 1);
  check_argument(options.num_topk >= 1, "num_topk", "{} is not >= 1", options.num_topk);
  const std::int64_t most_tokens = INT32_MAX / options.num_topk;
  check_argument(options.max_tokens >= 1 && options.max_tokens <= most_tokens, "max_tokens",
                 "{} is not between 1 and {} (2^31 - 1 entries)", options.max_tokens, most_tokens);
  const Index most = kMaxPhysical - placement.num_logical_experts;
  check_argument(options.max_redundants >= 0 && options.max_redundants <= most, "max_redundants",
                 "{} is not between 0 and {}", options.max_redundants, most);
  plan::check_staleness(options.staleness);
  plan::check_cost(options);
  check_costs();
  check_copies();
  check_argument(options.solve.solver != Solver::kCut || placement.num_ranks <= kMaxCutRanks,
                 "solver", "\"cut\" takes up to {} ranks, not {}", kMaxCutRanks,
                 placement.num_ranks);
  check_argument(options.solve.solver != Solver::kIpm, "solver",
                 "\"ipm\" is not on the device, expected auto, cut or flow");
  const int blocks = device_options.max_blocks;
  check_argument(blocks >= 1 && blocks <= plan::kMaxBlocks &&
                     std::has_single_bit(static_cast<unsigned>(blocks)),
                 "max_blocks", "{} is not 1, 2, 4 or {}", blocks, plan::kMaxBlocks);
}

void DevicePlanner::State::check_costs() const {
  const bool is_fast = options.solve.solver == Solver::kFastTime;
  check_argument(options.solve.solver != Solver::kTime, "solver",
                 "\"time\" is not on the device, expected auto or fast-time");
  if (!options.cost) {
    check_argument(!is_fast, "solver", "\"fast-time\" needs a cost model");
    return;
  }
  check_argument(is_fast || options.solve.solver == Solver::kAuto, "solver",
                 "\"{}\" takes no cost model, expected auto or fast-time",
                 solver_name(options.solve.solver));
  check_argument(options.staleness == 0, "staleness",
                 "is 1 with a cost, expected 0: the device splits by costs without it");
  // Sums of costs must fit, whatever the batch.
  Int128 most = 0;
  for (const CostTable& table : options.cost->tables()) {
    CostCurve curve;
    curve.assign(table, placement.speed(0));
    most = std::max<Int128>(most, curve.of(INT32_MAX) + curve.rank);
  }
  most *= placement.num_logical_experts + 2 * options.max_redundants + placement.num_ranks;
  check_argument(most < kCostLimit, "cost", "a batch of 2^31 - 1 tokens may cost 2^62 thousandths");
}

void DevicePlanner::State::find_members() {
  const Index given = device_options.num_members;
  if (device_options.exchange != nullptr) {
    plan::check_member(placement, rank, *device_options.exchange);
    num_members_ = device_options.exchange->num_ranks();
    check_argument(given == 0 || given == num_members_, "num_members",
                   "is {}, expected 0 or the ranks of the exchange ({})", given, num_members_);
  } else {
    num_members_ = given != 0 ? given : placement.num_ranks;
    plan::check_num_members(placement, num_members_, "num_members");
    check_argument(num_members_ == placement.num_ranks || placement.alive(rank), "rank",
                   "{} is dead, expected a live one: the group has no other ranks", rank);
  }
  row_ = plan::members_below(placement, num_members_)[rank];
}

void DevicePlanner::State::check_exchange() {
  const DeviceExchange* const exchange = device_options.exchange.get();
  if (exchange == nullptr) return;
  const auto most = static_cast<std::size_t>(limits_.max_columns());
  check_argument(exchange->max_counts() >= most, "exchange",
                 "has room for {} counts, expected {}: those of the largest placement",
                 exchange->max_counts(), most);
  peers_ = exchange::peer_args(*exchange);
}

void DevicePlanner::State::check_placement(const Placement& next) const {
  plan::check_next_placement(next, placement, options.max_redundants, num_members_);
  check_argument(!has_copies() || next.slots_per_rank() == placement.slots_per_rank(), "placement",
                 "has {} slots a rank, expected those of the first ({}) with dynamic slots",
                 next.slots_per_rank(), placement.slots_per_rank());
  for (Index g = 0; g < next.num_ranks; ++g) {
    check_argument(
        next.speed(g) == next.speed(0), "rank_speed",
        "rank {} has speed {}, expected that of rank 0 ({}): the device splits for equal "
        "speeds alone",
        g, next.speed(g), next.speed(0));
  }
}

void DevicePlanner::State::allocate() {
  const auto columns = static_cast<std::size_t>(layout_.max_columns);
  const std::size_t image_bytes = plan::max_image_bytes(limits_);
  device_image_.reserve(image_bytes);
  staging_.reserve(image_bytes);
  status_.reserve(1);
  if (has_copies()) allocate_copies();
  host_status_.reserve(2);
  block_totals_.reserve(plan::kMaxBlocks * (columns + 1));
  segments_.reserve(static_cast<std::size_t>(limits_.max_replicas()) + 1);
  if (device_options.exchange != nullptr) {
    gathered_.reserve(columns * static_cast<std::size_t>(limits_.num_ranks));
    if (peers_ == nullptr || is_stale()) mine_.reserve(columns);
    if (peers_ == nullptr && is_stale()) {
      background_ = std::make_unique<Background>();
      if (device_options.keeps_split) previous_counts_.reserve(gathered_.capacity());
    }
  }
  if (is_stale()) previous_.reserve(1);
  const auto physical = static_cast<std::size_t>(limits_.max_physical() + limits_.num_dynamic());
  const auto ranks = static_cast<std::size_t>(limits_.num_ranks);
  if (device_options.checks || device_options.keeps_split) {
    checks_.own.reserve(columns);
    checks_.group.reserve(columns);
    checks_.quota.reserve(physical);
    checks_.state.reserve(plan::kTraceSize);
    if (has_copies()) {
      checks_.physical.reserve(static_cast<std::size_t>(limits_.max_replicas()));
      checks_.replica_begin.reserve(columns + 1);
    }
  }
  if (!device_options.checks) return;
  checks_.taken.reserve(physical);
  checks_.met.reserve(physical);
  checks_.rank_load.reserve(ranks);
  checks_.counts.reserve(ranks * columns);
  checks_.segments.reserve(std::size_t{plan::kThreads} *
                           (static_cast<std::size_t>(limits_.max_redundants) + 1));
}

}  // namespace lplb
