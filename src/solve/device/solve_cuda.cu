// SPDX-License-Identifier: MIT
#include <algorithm>
#include <bit>
#include <limits>

#include "lplb/backend.h"
#include "solve/device/device_solver.h"
#include "solve/device/solve_kernel.cuh"
#include "solve/device/time_kernels.h"
#include "solve/time/time.h"

namespace lplb {
namespace solvers {
namespace {

constexpr int kMinBlockThreads = 128;  // at least this many load and store
constexpr int kMaxTeamWarps = 8;

using Kernel = void (*)(SolveArgs);

template <Form... kForms>
struct Kernels {
  static Kernel of(Form form) {
    Kernel kernel = nullptr;
    ((kernel = form == kForms ? Kernel{solve_kernel<kForms, false>} : kernel), ...);
    return kernel;
  }
  static void allow_shared_memory(int bytes) {
    (...,
     LPLB_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(of(kForms)),
                                          cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)));
  }
};
using AllKernels =
    Kernels<Form::kCut, Form::kFlow32, Form::kFlow96, Form::kFlow128, Form::kFlowBlock>;

int most_shared_memory() {
  int device = 0;
  int bytes = 0;
  LPLB_CUDA_CHECK(cudaGetDevice(&device));
  LPLB_CUDA_CHECK(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  return bytes - 1024;  // the rest is for the system and the kernel's own variables
}

}  // namespace

Form choose_form(const DeviceTablesHeader& h, Solver solver) {
  if (solver == Solver::kCut) return Form::kCut;
  if (Flow32::takes(h)) return Form::kFlow32;
  if (Flow96::takes(h)) return Form::kFlow96;
  if (Flow128::takes(h)) return Form::kFlow128;
  return Form::kFlowBlock;
}

int team_threads(const DeviceTablesHeader& h, Form form) {
  if (form == Form::kCut) return kCutThreads;
  if (form == Form::kFlow96 || form == Form::kFlow128) return kMaskThreads;
  if (form != Form::kFlowBlock) return kWarpSize;
  const int threads = std::max(h.most_experts, h.num_live);
  return std::min((threads + kWarpSize - 1) / kWarpSize, kMaxTeamWarps) * kWarpSize;
}

int state_bytes(const DeviceTablesHeader& h) { return BlockState::bytes(h); }
int time_bytes(const DeviceTablesHeader& h) { return BlockTimeState::bytes(h); }

void DeviceProblem::assign(const SplitProblem::Tables& tables, cudaStream_t stream,
                           const TimeModel* model) {
  const std::uint64_t model_version = model != nullptr ? model->model_version() : 0;
  if (version_ == tables.version && model_version_ == model_version) return;
  version_ = 0;
  image_.assign(tables, model);
  bytes_.reserve(image_.bytes.size());
  LPLB_CUDA_CHECK(cudaMemcpyAsync(bytes_.get(), image_.bytes.data(), image_.bytes.size(),
                                  cudaMemcpyHostToDevice, stream));
  LPLB_CUDA_CHECK(cudaStreamSynchronize(stream));
  shared_bytes_ = model == nullptr ? header().bytes + BlockState::bytes(header())
                                   : time_offset(header()) + BlockTimeState::bytes(header());
  most_shared_bytes_ = most_shared_memory();
  // NOTE: this is set for each problem, because it belongs to the kernel and the device.
  if (model == nullptr) {
    AllKernels::allow_shared_memory(most_shared_bytes_);
  } else {
    allow_time_kernels(most_shared_bytes_);
  }
  version_ = tables.version;
  model_version_ = model_version;
}

bool DeviceProblem::fits() const { return shared_bytes_ <= most_shared_bytes_; }

void DeviceProblem::launch(cudaStream_t stream, const SolvePointers& pointers, int num_batches,
                           Solver solver, std::int64_t max_steps) const {
  const bool by_cost = solver == Solver::kFastTime;
  if (by_cost) solver = chosen_solver({}, header().num_ranks);
  const Form form = choose_form(header(), solver);
  const int team = team_threads(header(), form);
  const SolveArgs args{bytes_.get(),
                       header(),
                       pointers.load,
                       pointers.physical_load,
                       pointers.take,
                       pointers.rank_load,
                       pointers.proof,
                       pointers.outcome,
                       pointers.time,
                       team,
                       device_steps(header().num_ranks, max_steps)};
  const Kernel kernel = by_cost ? time_kernel(form) : AllKernels::of(form);
  const int threads = by_cost ? kTimeThreads : std::max(team, kMinBlockThreads);
  kernel<<<num_batches, threads, shared_bytes_, stream>>>(args);
  LPLB_CUDA_CHECK(cudaGetLastError());
}

}  // namespace solvers

using solvers::DeviceOutcome;
using solvers::DeviceProblem;
using solvers::SolvePointers;

/// What a workspace keeps for the device.
struct DeviceWorkspace {
  device::Stream stream;
  DeviceProblem problem;
  device::HostArray<std::int32_t> host_in, host_out;
  device::HostArray<DeviceOutcome> host_outcome;
  device::HostArray<solvers::TimeOutcome> host_time;
  device::Array<std::int32_t> load, out;
  device::Array<DeviceOutcome> outcome;
  device::Array<solvers::TimeOutcome> time;
};

void Workspace::DeviceDeleter::operator()(DeviceWorkspace* device) const { delete device; }

namespace solvers {
namespace {

constexpr Load kMost = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kBatchesAtOnce = 1 << 14;

DeviceWorkspace& device_of(Buffers& buffers) {
  if (buffers.device == nullptr) buffers.device.reset(new DeviceWorkspace);
  return *buffers.device;
}

/// Writes a load that is the same to the solvers as the real one: all tokens of a rank's fixed
/// experts are given to one of these experts.
void write_load(const Tables& t, const Buffers& b, std::int32_t* load) {
  std::fill_n(load, t.num_logical, 0);
  for (Index e = 0; e < t.num_logical; ++e) {
    const Index rank = t.fixed_rank[e];
    if (rank >= 0)
      load[e] = static_cast<std::int32_t>(t.fixed_carrier[rank] == e ? b.fixed_load[rank] : 0);
  }
  for (Index k = 0; k < t.num_replicated(); ++k) {
    load[t.expert[k]] = static_cast<std::int32_t>(b.want[k]);
  }
}

/// Whether solve_kernel() is a twin of the solver. It knows no speeds.
bool has_kernel(const Tables& t, Solver solver) {
  const bool is_twin =
      solver == Solver::kCut || solver == Solver::kFlow || solver == Solver::kFastTime;
  return is_twin && t.cost.uniform();
}

/// Whether no batch of up to kMost tokens costs more than 2^62 thousandths. The CPU checks each.
bool bounds_costs(const Tables& t, const TimeModel& model) {
  Int128 most = 0;
  for (const Index g : t.live_ranks) {
    const Cost part = std::max(model.curve(g).of(kMost), model.weight(g).of(kMost));
    most += model.rank_cost(g) + static_cast<Int128>(part) * t.num_logical;
  }
  return most < kCostLimit;
}

/// Brings the problem to the device. Returns false if that cannot take it.
bool prepare(const Tables& t, const SolveOptions& options, Buffers& b, DeviceWorkspace& d) {
  const TimeModel* model = nullptr;
  if (options.cost != nullptr) {
    model = &assign_model(t, options, b);
    if (!bounds_costs(t, *model)) return false;
  }
  d.problem.assign(t, d.stream.get(), model);
  return d.problem.fits();
}

void read_back(const Tables& t, const DeviceProblem& problem, const std::int32_t* out,
               const DeviceOutcome& outcome, Buffers& b) {
  const DeviceTablesHeader& h = problem.header();
  for (std::size_t i = 0; i < t.place.size(); ++i) {
    b.take[i] = out[i];
  }
  const std::int32_t* rank_load = out + h.num_places;
  std::copy_n(rank_load, t.num_ranks, b.rank_load.begin());
  const std::int32_t* proof = rank_load + t.num_ranks;
  b.bound = {outcome.bound, -1};
  for (Index g = 0; g < t.num_ranks; ++g) {
    const bool in = (static_cast<std::uint32_t>(proof[g / 32]) >> (g % 32) & 1) != 0;
    b.in_proof[g] = in ? 1 : 0;
    if (in && b.bound.rank < 0) b.bound.rank = g;
  }
  b.status = outcome.status == kDeviceBounded ? SolveStatus::kBounded : SolveStatus::kOptimal;
  b.steps = outcome.steps;
}

}  // namespace

bool solve_on_device(const Tables& t, const SolveOptions& options, Solver solver, Buffers& b) {
  device::require();
  if (!has_kernel(t, solver) || b.total > kMost) return false;
  DeviceWorkspace& d = device_of(b);
  const cudaStream_t stream = d.stream.get();
  if (!prepare(t, options, b, d)) return false;
  const bool by_cost = options.cost != nullptr;
  const DeviceTablesHeader& h = d.problem.header();
  const auto logical = static_cast<std::size_t>(t.num_logical);
  const auto places = static_cast<std::size_t>(h.num_places);
  const auto ranks = static_cast<std::size_t>(t.num_ranks);
  const std::size_t out_size =
      places + ranks + static_cast<std::size_t>(BlockState::words(t.num_ranks));
  d.host_in.reserve(logical);
  d.host_out.reserve(out_size);
  d.host_outcome.reserve(1);
  d.load.reserve(logical);
  d.out.reserve(out_size);
  d.outcome.reserve(1);
  d.host_time.reserve(1);
  d.time.reserve(1);

  if (by_cost) {
    std::transform(b.load.begin(), b.load.end(), d.host_in.get(),
                   [](Load w) { return static_cast<std::int32_t>(w); });
  } else {
    write_load(t, b, d.host_in.get());
  }
  LPLB_CUDA_CHECK(cudaMemcpyAsync(d.load.get(), d.host_in.get(), logical * sizeof(std::int32_t),
                                  cudaMemcpyHostToDevice, stream));
  SolvePointers pointers;
  pointers.load = d.load.get();
  pointers.take = d.out.get();
  pointers.rank_load = d.out.get() + places;
  pointers.proof = reinterpret_cast<std::uint32_t*>(d.out.get() + places + ranks);
  pointers.outcome = d.outcome.get();
  pointers.time = d.time.get();
  d.problem.launch(stream, pointers, 1, solver, by_cost ? -1 : options.max_steps);
  LPLB_CUDA_CHECK(cudaMemcpyAsync(d.host_out.get(), d.out.get(), out_size * sizeof(std::int32_t),
                                  cudaMemcpyDeviceToHost, stream));
  LPLB_CUDA_CHECK(cudaMemcpyAsync(d.host_outcome.get(), d.outcome.get(), sizeof(DeviceOutcome),
                                  cudaMemcpyDeviceToHost, stream));
  if (by_cost) {
    LPLB_CUDA_CHECK(cudaMemcpyAsync(d.host_time.get(), d.time.get(), sizeof(TimeOutcome),
                                    cudaMemcpyDeviceToHost, stream));
  }
  LPLB_CUDA_CHECK(cudaStreamSynchronize(stream));
  read_back(t, d.problem, d.host_out.get(), *d.host_outcome.get(), b);
  if (by_cost) complete_fast_time(t, options, d.host_time.get()->bound, b);
  return true;
}

bool solve_batch_on_device(const Tables& t, const SolveOptions& options, Solver solver,
                           std::span<const Load> loads, std::span<Load> physical_loads,
                           std::span<SplitSummary> summary, std::vector<char>& refused,
                           Buffers& b) {
  device::require();
  if (!has_kernel(t, solver)) return false;
  DeviceWorkspace& d = device_of(b);
  const cudaStream_t stream = d.stream.get();
  if (!prepare(t, options, b, d)) return false;
  const bool by_cost = options.cost != nullptr;
  const auto logical = static_cast<std::size_t>(t.num_logical);
  const auto physical = static_cast<std::size_t>(t.num_physical);
  const std::size_t most = std::min(kBatchesAtOnce, summary.size());
  d.host_in.reserve(most * logical);
  d.host_out.reserve(most * physical);
  d.host_outcome.reserve(most);
  d.load.reserve(most * logical);
  d.out.reserve(most * physical);
  d.outcome.reserve(most);
  d.host_time.reserve(most);
  d.time.reserve(most);
  refused.assign(summary.size(), 0);
  for (std::size_t begin = 0; begin < summary.size(); begin += most) {
    const std::size_t count = std::min(most, summary.size() - begin);
    // NOTE: a load that does not fit in 32 bits becomes -1, which the kernel refuses.
    std::transform(loads.begin() + static_cast<std::ptrdiff_t>(begin * logical),
                   loads.begin() + static_cast<std::ptrdiff_t>((begin + count) * logical),
                   d.host_in.get(),
                   [](Load w) { return w < 0 || w > kMost ? -1 : static_cast<std::int32_t>(w); });
    LPLB_CUDA_CHECK(cudaMemcpyAsync(d.load.get(), d.host_in.get(),
                                    count * logical * sizeof(std::int32_t), cudaMemcpyHostToDevice,
                                    stream));
    SolvePointers pointers;
    pointers.load = d.load.get();
    pointers.physical_load = d.out.get();
    pointers.outcome = d.outcome.get();
    pointers.time = d.time.get();
    d.problem.launch(stream, pointers, static_cast<int>(count), solver,
                     by_cost ? -1 : options.max_steps);
    LPLB_CUDA_CHECK(cudaMemcpyAsync(d.host_out.get(), d.out.get(),
                                    count * physical * sizeof(std::int32_t), cudaMemcpyDeviceToHost,
                                    stream));
    LPLB_CUDA_CHECK(cudaMemcpyAsync(d.host_outcome.get(), d.outcome.get(),
                                    count * sizeof(DeviceOutcome), cudaMemcpyDeviceToHost, stream));
    if (by_cost) {
      LPLB_CUDA_CHECK(cudaMemcpyAsync(d.host_time.get(), d.time.get(), count * sizeof(TimeOutcome),
                                      cudaMemcpyDeviceToHost, stream));
    }
    LPLB_CUDA_CHECK(cudaStreamSynchronize(stream));
    std::copy_n(d.host_out.get(), count * physical,
                physical_loads.begin() + static_cast<std::ptrdiff_t>(begin * physical));
    for (std::size_t i = 0; i < count; ++i) {
      const DeviceOutcome& outcome = d.host_outcome.get()[i];
      const bool optimal = outcome.status == kDeviceOptimal;
      const double speed = t.cost.speed(t.live_ranks[0]);
      summary[begin + i] = {optimal ? SolveStatus::kOptimal : SolveStatus::kBounded,
                            outcome.max_load / speed, outcome.bound / speed};
      if (by_cost) {
        const TimeOutcome& time = d.host_time.get()[i];
        summary[begin + i].max_cost = cost_in_units(time.max_cost);
        summary[begin + i].cost_lower_bound = cost_in_units(time.bound);
      }
      refused[begin + i] = outcome.status == kDeviceRefused ? 1 : 0;
    }
  }
  return true;
}

}  // namespace solvers
}  // namespace lplb
