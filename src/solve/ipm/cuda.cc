// SPDX-License-Identifier: MIT
#include "solve/ipm/cuda.h"

#include <algorithm>
#include <vector>

#include "core/check.h"
#include "core/launch.cuh"
#include "solve/ipm/finish.h"

namespace lplb::solvers {
namespace {

using Tables = SplitProblem::Tables;

template <class T>
void copy_to_device(T* to, const std::vector<T>& from) {
  LPLB_CUDA_CHECK(cudaMemcpy(to, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice));
}

template <class T>
std::vector<T> copy_from_device(const T* from, std::size_t count) {
  std::vector<T> to(count);
  LPLB_CUDA_CHECK(cudaMemcpy(to.data(), from, count * sizeof(T), cudaMemcpyDeviceToHost));
  return to;
}

}  // namespace

IpmDevice::IpmDevice(const Tables& t, int max_instances) {
  tables_.assign(t);
  device::require();
  int device = 0;
  int available = 0;
  LPLB_CUDA_CHECK(cudaGetDevice(&device));
  LPLB_CUDA_CHECK(
      cudaDeviceGetAttribute(&available, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  check_argument(tables_.shared_bytes() < available, "placement",
                 "needs {} bytes of shared memory, a block of this device has {}",
                 tables_.shared_bytes(), available);
  kernel_ = ipm_kernel(tables_.size());
  LPLB_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel_),
                                       cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       tables_.shared_bytes()));
  integers_.reserve(tables_.integers().size());
  copy_to_device(integers_.get(), tables_.integers());
  speed_.reserve(tables_.speed().size());
  copy_to_device(speed_.get(), tables_.speed());
  tables_.fill(args_, integers_.get(), speed_.get());

  const auto n = static_cast<std::size_t>(max_instances);
  const auto rows = static_cast<std::size_t>(args_.num_rows);
  const std::size_t variables = t.place.size();
  want_.reserve(std::max<std::size_t>(1, n * t.expert.size()));
  fixed_.reserve(n * rows);
  take_.reserve(std::max<std::size_t>(1, n * variables));
  price_.reserve(n * rows);
  outcome_.reserve(n);
  kept_.reserve(n * (1 + variables + rows));
  LPLB_CUDA_CHECK(cudaMemset(kept_.get(), 0, n * (1 + variables + rows) * sizeof(double)));
  args_.want = want_.get();
  args_.fixed = fixed_.get();
  args_.take = take_.get();
  args_.price = price_.get();
  args_.outcome = outcome_.get();
  args_.kept = kept_.get();
}

void IpmDevice::launch(int instances, const SolveOptions& options, cudaStream_t stream) {
  args_.tolerance = options.tolerance;
  args_.max_iterations = options.max_iterations;
  args_.warm = options.warm_start ? 1 : 0;
  device::launch(kernel_,
                 {.num_blocks = instances,
                  .num_threads = tables_.size().rows * tables_.size().lanes,
                  .shared_bytes = static_cast<std::size_t>(tables_.shared_bytes())},
                 stream, args_);
}

void solve_ipm_cuda(const Tables& t, const SolveOptions& options, Workspace::Buffers& b) {
  IpmDevice device(t, 1);
  IpmKernelArgs& args = device.args();
  std::vector<Load> fixed;
  fixed.reserve(t.live_ranks.size());
  for (const Index g : t.live_ranks) fixed.push_back(b.fixed_load[g]);
  LPLB_CUDA_CHECK(cudaMemcpy(const_cast<Load*>(args.want), b.want.data(),
                             b.want.size() * sizeof(Load), cudaMemcpyHostToDevice));
  LPLB_CUDA_CHECK(cudaMemcpy(const_cast<Load*>(args.fixed), fixed.data(),
                             fixed.size() * sizeof(Load), cudaMemcpyHostToDevice));
  device.launch(1, options, nullptr);
  const std::vector<Load> take = copy_from_device(args.take, t.place.size());
  const std::vector<double> price = copy_from_device(args.price, t.live_ranks.size());
  const IpmOutcome outcome = copy_from_device(args.outcome, 1)[0];

  const double unit = std::max(1.0, static_cast<double>(b.total)) / args.num_rows;
  b.ipm.result = {
      outcome.status == IpmOutcomeStatus::kConverged ? IpmStatus::kConverged : IpmStatus::kLimit,
      outcome.iterations, outcome.max_load / unit, outcome.lower_bound / unit, 0};
  b.steps = outcome.iterations;
  std::copy(take.begin(), take.end(), b.take.begin());
  b.rank_load = b.fixed_load;
  for (std::size_t i = 0; i < t.place.size(); ++i) b.rank_load[t.place[i].rank] += take[i];
  prove_by_prices(t, price, b);
  settle_status(t, b);
}

}  // namespace lplb::solvers
