// SPDX-License-Identifier: MIT
#include "lplb/device_weights.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "core/device.h"
#include "core/format.h"
#include "core/made.h"
#include "core/mix.h"
#include "exchange/peer/memory.h"
#include "exchange/weights/kernels.h"
#include "lplb/replicate.h"

namespace lplb {

struct DeviceWeightExchange::State {
  exchange::WeightArgs args{};
  GradientType gradient_type = GradientType::kFloat32;
  Index num_sms = 1;
  Transport transport = Transport::kGiven;
  std::unique_ptr<exchange::PeerMemory> memory;
  device::HostArray<exchange::WeightControl> control;
};

namespace {

using exchange::WeightsLayout;

std::size_t gradient_size(GradientType type) { return type == GradientType::kFloat32 ? 4 : 2; }

void check_layers(std::span<const Placement> layers) {
  check_argument(!layers.empty(), "layers", "is empty, expected a placement for each layer");
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Placement& p = layers[i];
    check_maps(p, "layers");
    const Placement& first = layers[0];
    check_argument(p.num_ranks == first.num_ranks &&
                       p.num_logical_experts == first.num_logical_experts &&
                       p.num_physical() == first.num_physical(),
                   "layers", "number {} has {} ranks, {} experts and {} slots, number 0 {}, {}, {}",
                   i, p.num_ranks, p.num_logical_experts, p.num_physical(), first.num_ranks,
                   first.num_logical_experts, first.num_physical());
    for (Index g = 0; g < p.num_ranks; ++g) {
      check_argument(p.alive(g) == first.alive(g), "layers",
                     "rank {} is alive in number {} or number 0, but not in both", g, i);
    }
  }
}

void check_tensors(const DeviceWeightLayout& layout) {
  const auto check_count = [](std::size_t size, std::size_t least, const char* name) {
    check_argument(size >= least && size <= exchange::kMaxTensors, name,
                   "has {} tensors, expected {} to {}", size, least, exchange::kMaxTensors);
  };
  check_count(layout.tensor_bytes.size(), 1, "tensor_bytes");
  for (const std::size_t bytes : layout.tensor_bytes) {
    check_argument(bytes > 0, "tensor_bytes", "has 0, expected at least 1");
  }
  check_count(layout.gradient_sizes.size(), 0, "gradient_sizes");
  const std::size_t step = 16 / gradient_size(layout.gradient_type);
  for (const std::size_t size : layout.gradient_sizes) {
    check_argument(size > 0 && size % step == 0, "gradient_sizes",
                   "has {}, expected a multiple of {}, which are 16 bytes", size, step);
  }
}

void check_options(const DeviceWeightOptions& options, Index num_ranks, std::size_t num_layers) {
  const auto check_range = [](Index value, Index least, std::int64_t most, const char* name) {
    check_argument(value >= least && value <= most, name, "{} is not between {} and {}", value,
                   least, most);
  };
  check_range(options.dynamic_slots, 1, kMaxDynamicSlots, "dynamic_slots");
  check_argument(num_ranks * options.dynamic_slots <= exchange::kMaxPlan, "dynamic_slots",
                 "{} on each of {} ranks, expected at most {} in all", options.dynamic_slots,
                 num_ranks, exchange::kMaxPlan);
  check_range(options.slot_sets, 0, static_cast<std::int64_t>(num_layers), "slot_sets");
  check_range(options.num_sms, 1, 1024, "num_sms");
  check_range(options.num_buffers, 2, exchange::kMaxBuffers, "num_buffers");
  check_argument(options.deadline.count() > 0, "deadline", "{} us is not > 0",
                 options.deadline.count());
}

/// All that describes what is moved, once it has been checked.
struct Setup {
  Setup(std::span<const Placement> l, const DeviceWeightLayout& t, const DeviceWeightOptions& o)
      : layers(l), tensors(t), options(o) {
    check_layers(layers);
    check_tensors(tensors);
    check_options(options, layers[0].num_ranks, layers.size());
    for (Index g = 0; g < layers[0].num_ranks; ++g) num_live += layers[0].alive(g) ? 1 : 0;
  }

  void check_members(std::int64_t count, const char* name) const {
    check_argument(count == layers[0].num_ranks || count == num_live, name,
                   "are {}, expected one for each rank of the placement ({}) or each live one ({})",
                   count, layers[0].num_ranks, num_live);
  }
  WeightsLayout layout(Index num_members) const {
    return exchange::lay_out(layers[0], static_cast<Index>(layers.size()), num_members, tensors,
                             options);
  }
  /// The member that each rank is; -1: none.
  std::vector<std::int32_t> members(Index num_members) const {
    std::vector<std::int32_t> member_of;
    std::int32_t next = 0;
    for (Index g = 0; g < layers[0].num_ranks; ++g) {
      const bool is_member = num_members == layers[0].num_ranks || layers[0].alive(g);
      member_of.push_back(is_member ? next++ : -1);
    }
    return member_of;
  }
  Index rank_of(Index member, Index num_members) const {
    const std::vector<std::int32_t> all = members(num_members);
    return static_cast<Index>(std::find(all.begin(), all.end(), member) - all.begin());
  }
  /// What all ranks must agree on, as text.
  std::string describe(Index num_members) const {
    std::uint64_t hash = 1;
    const auto add = [&hash](std::uint64_t value) { hash = mix(hash + value); };
    for (const Placement& p : layers) {
      for (const Index e : p.physical_to_logical) add(static_cast<std::uint64_t>(e));
    }
    for (const std::size_t bytes : tensors.tensor_bytes) add(bytes);
    for (const std::size_t size : tensors.gradient_sizes) add(size);
    return formatted(
        "{} ranks, {} layers, {} dynamic slots, {} sets, {} tensors and {} gradients of type {}, "
        "sizes and placements with the hash {:#x}",
        num_members, layers.size(), options.dynamic_slots, options.slot_sets,
        tensors.tensor_bytes.size(), tensors.gradient_sizes.size(),
        static_cast<int>(tensors.gradient_type), hash);
  }

  /// Writes the tables into the memory of a member, which is the current device's.
  void prepare(Index member, const exchange::PeerMemory& memory) const {
    const auto num_members = static_cast<Index>(memory.buffers().size());
    const WeightsLayout l = layout(num_members);
    exchange::prepare_buffer(member, memory);
    auto* const own =
        static_cast<unsigned char*>(memory.buffers()[static_cast<std::size_t>(member)]);
    const auto write = [](unsigned char* to, const std::vector<std::int32_t>& values) {
      LPLB_CUDA_CHECK(
          cudaMemcpy(to, values.data(), values.size() * sizeof(values[0]), cudaMemcpyHostToDevice));
    };
    write(own + l.member_of, members(num_members));
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const std::vector<Index>& map = layers[i].physical_to_logical;
      write(own + l.placement(static_cast<int>(i)), {map.begin(), map.end()});
    }
    LPLB_CUDA_CHECK(cudaDeviceSynchronize());
  }

  std::span<const Placement> layers;
  const DeviceWeightLayout& tensors;
  const DeviceWeightOptions& options;
  Index num_live = 0;
};

std::unique_ptr<DeviceWeightExchange::State> make_state(
    const Setup& setup, Index member, Transport transport,
    std::unique_ptr<exchange::PeerMemory> memory) {
  const auto num_members = static_cast<Index>(memory->buffers().size());
  auto state = std::make_unique<DeviceWeightExchange::State>();
  exchange::WeightArgs& args = state->args;
  args.own = static_cast<unsigned char*>(memory->buffers()[static_cast<std::size_t>(member)]);
  args.layout = setup.layout(num_members);
  args.deadline_ns = exchange::deadline_ns(setup.options.deadline);
  args.member = member;
  args.rank = setup.rank_of(member, num_members);
  args.num_buffers = std::min(exchange::prepare_weights(), setup.options.num_buffers);
  state->gradient_type = setup.tensors.gradient_type;
  state->num_sms = setup.options.num_sms;
  state->transport = transport;
  state->memory = std::move(memory);
  state->control.reserve(1);
  return state;
}

/// The member of the group that a rank of the placement is.
Index member_of(const Setup& setup, Index rank, Index num_members) {
  const Placement& p = setup.layers[0];
  check_argument(rank >= 0 && rank < p.num_ranks, "rank", "{} is not between 0 and {}", rank,
                 p.num_ranks - 1);
  const Index member = setup.members(num_members)[static_cast<std::size_t>(rank)];
  check_argument(member >= 0, "rank", "{} is dead, expected a live rank", rank);
  return member;
}

}  // namespace

DeviceWeightExchange::DeviceWeightExchange(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
DeviceWeightExchange::~DeviceWeightExchange() = default;

std::size_t DeviceWeightExchange::buffer_bytes(std::span<const Placement> layers,
                                               const DeviceWeightLayout& layout,
                                               const DeviceWeightOptions& options) {
  const Setup setup(layers, layout, options);
  return static_cast<std::size_t>(setup.layout(layers[0].num_ranks).bytes);
}

std::unique_ptr<DeviceWeightExchange> DeviceWeightExchange::connect(
    Index rank, Index num_members, const AllGatherBytes& all_gather,
    std::span<const Placement> layers, const DeviceWeightLayout& layout,
    const DeviceWeightOptions& options, const ConnectOptions& how) {
  const Setup setup(layers, layout, options);
  setup.check_members(num_members, "num_members");
  const Index member = member_of(setup, rank, num_members);
  exchange::ConnectedMemory connected = exchange::connect_memory(
      {member, num_members, how.nccl_comm}, all_gather, how, setup.describe(num_members),
      static_cast<std::size_t>(setup.layout(num_members).bytes),
      [&](Index m, const exchange::PeerMemory& memory) {
        setup.prepare(m, memory);
        (void)exchange::prepare_weights();
      });
  return std::unique_ptr<DeviceWeightExchange>(new DeviceWeightExchange(
      make_state(setup, member, connected.transport, std::move(connected.memory))));
}

std::vector<std::unique_ptr<DeviceWeightExchange>> DeviceWeightExchange::in_process(
    std::span<const int> devices, std::span<const Placement> layers,
    const DeviceWeightLayout& layout, const DeviceWeightOptions& options) {
  const Setup setup(layers, layout, options);
  setup.check_members(static_cast<std::int64_t>(devices.size()), "devices");
  const auto num_members = static_cast<Index>(devices.size());
  auto memories = exchange::allocate_in_process(
      devices, static_cast<std::size_t>(setup.layout(num_members).bytes),
      [&](Index m, const exchange::PeerMemory& memory) {
        setup.prepare(m, memory);
        (void)exchange::prepare_weights();
      });
  std::vector<std::unique_ptr<DeviceWeightExchange>> all;
  all.reserve(devices.size());
  for (Index m = 0; m < num_members; ++m) {
    all.push_back(std::unique_ptr<DeviceWeightExchange>(new DeviceWeightExchange(make_state(
        setup, m, Transport::kProcess, std::move(memories[static_cast<std::size_t>(m)])))));
  }
  return all;
}

std::unique_ptr<DeviceWeightExchange> DeviceWeightExchange::from_pointers(
    Index rank, std::span<void* const> buffers, std::span<const Placement> layers,
    const DeviceWeightLayout& layout, const DeviceWeightOptions& options) {
  const Setup setup(layers, layout, options);
  setup.check_members(static_cast<std::int64_t>(buffers.size()), "buffers");
  const auto num_members = static_cast<Index>(buffers.size());
  const Index member = member_of(setup, rank, num_members);
  std::unique_ptr<exchange::PeerMemory> memory = exchange::use_given(
      member, buffers, static_cast<std::size_t>(setup.layout(num_members).bytes));
  setup.prepare(member, *memory);
  return std::unique_ptr<DeviceWeightExchange>(
      new DeviceWeightExchange(make_state(setup, member, Transport::kGiven, std::move(memory))));
}

namespace {

void check_index(Index value, std::int32_t count, const char* name) {
  check_argument(value >= 0 && value < count, name, "{} is not between 0 and {}", value, count - 1);
}

}  // namespace

void* DeviceWeightExchange::main(Index layer, Index tensor) const {
  const exchange::WeightArgs& a = state_->args;
  check_index(layer, a.layout.num_layers, "layer");
  check_index(tensor, a.layout.num_tensors, "tensor");
  return a.own + WeightsLayout::main(a.layout.tensor[tensor], layer, 0);
}

void* DeviceWeightExchange::dynamic(Index layer, Index tensor) const {
  const exchange::WeightArgs& a = state_->args;
  check_index(layer, a.layout.num_layers, "layer");
  check_index(tensor, a.layout.num_tensors, "tensor");
  return a.own + a.layout.dynamic(a.layout.tensor[tensor], layer, 0);
}

std::size_t DeviceWeightExchange::stride(Index tensor) const {
  check_index(tensor, state_->args.layout.num_tensors, "tensor");
  return static_cast<std::size_t>(state_->args.layout.tensor[tensor].bytes);
}

void* DeviceWeightExchange::dynamic_gradients(Index layer, Index tensor) const {
  const exchange::WeightArgs& a = state_->args;
  check_index(layer, a.layout.num_layers, "layer");
  check_index(tensor, a.layout.num_gradients, "tensor");
  return a.own + a.layout.dynamic(a.layout.gradient[tensor], layer, 0);
}

Transport DeviceWeightExchange::transport() const { return state_->transport; }
std::size_t DeviceWeightExchange::bytes() const { return state_->memory->bytes(); }
void DeviceWeightExchange::disconnect() { state_->memory->disconnect(); }

void DeviceWeightExchange::fetch(StreamHandle stream, Index layer, const DeviceFetch& fetch) {
  check_index(layer, state_->args.layout.num_layers, "layer");
  check_argument(fetch.slot_expert != nullptr, "slot_expert", "is null, expected {} experts",
                 state_->args.layout.plan_size());
  check_argument(fetch.slot_source != nullptr, "slot_source", "is null, expected {} ranks",
                 state_->args.layout.plan_size());
  exchange::FetchArgs args{state_->args, fetch.slot_expert, fetch.slot_source, fetch.is_held};
  args.layer = layer;
  args.outcome = fetch.outcome;
  exchange::launch_fetch(args, state_->num_sms, stream);
}

void DeviceWeightExchange::update(StreamHandle stream, Index layer, Index first_slot,
                                  Index num_slots) {
  const exchange::WeightArgs& a = state_->args;
  check_index(layer, a.layout.num_layers, "layer");
  check_index(first_slot, a.layout.main_slots, "first_slot");
  check_argument(num_slots >= 1 && num_slots <= a.layout.main_slots - first_slot, "num_slots",
                 "{} is not between 1 and {}", num_slots, a.layout.main_slots - first_slot);
  exchange::launch_update(
      reinterpret_cast<unsigned long long*>(a.own + a.layout.version(layer, first_slot)), num_slots,
      stream);
}

void DeviceWeightExchange::reduce_gradients(StreamHandle stream, Index layer,
                                            std::span<void* const> main_gradients,
                                            std::int32_t* outcome) {
  exchange::ReduceArgs args{state_->args, {}};
  check_index(layer, args.layout.num_layers, "layer");
  const auto count = static_cast<std::size_t>(args.layout.num_gradients);
  check_argument(count > 0, "gradient_sizes", "is empty, expected gradients");
  check_argument(main_gradients.size() == count, "main_gradients", "has {} tensors, expected {}",
                 main_gradients.size(), count);
  for (std::size_t i = 0; i < count; ++i) {
    check_argument(main_gradients[i] != nullptr, "main_gradients", "has a null tensor");
    device::check_aligned(main_gradients[i], 16, "main_gradients");
    args.main[i] = static_cast<unsigned char*>(main_gradients[i]);
  }
  args.layer = layer;
  args.outcome = outcome;
  exchange::launch_reduce(args, state_->gradient_type, state_->num_sms, stream);
}

DeviceWeightStats DeviceWeightExchange::stats(StreamHandle stream) {
  auto* const cuda_stream = static_cast<cudaStream_t>(stream);
  const exchange::WeightArgs& a = state_->args;
  LPLB_CUDA_CHECK(cudaMemcpyAsync(state_->control.get(), a.own + a.layout.control,
                                  sizeof(exchange::WeightControl), cudaMemcpyDeviceToHost,
                                  cuda_stream));
  LPLB_CUDA_CHECK(cudaStreamSynchronize(cuda_stream));
  const exchange::WeightControl& c = *state_->control.get();
  const auto number = [](unsigned long long value) { return static_cast<std::int64_t>(value); };
  DeviceWeightStats stats;
  stats.calls = number(c.calls);
  stats.refused = number(c.refused);
  stats.mismatched = number(c.mismatched);
  stats.timed_out = number(c.timed_out);
  stats.behind = number(c.behind);
  stats.failed = number(c.failed);
  stats.copied = number(c.copied);
  stats.skipped = number(c.skipped);
  stats.bytes = number(c.bytes);
  stats.last_missing = stats.complete() == stats.calls ? -1 : c.last_missing;
  return stats;
}

}  // namespace lplb
