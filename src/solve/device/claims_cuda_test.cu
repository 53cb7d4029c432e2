// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/device.h"
#include "lplb/backend.h"
#include "lplb/solver.h"
#include "solve/device/claim_slots.h"
#include "solve/device/device_solver.h"
#include "solve/device/solve_kernel.cuh"
#include "support/instances.h"

// Solves LPLB_PROVED_SOLVES batches of each of three shapes on a GPU, and checks there every claim
// by claim.h. A kernel draws the loads, so that no batch comes from the host or goes to it.
namespace lplb::solvers {
namespace {

constexpr int kBatches = 1 << 16;  // of a launch
constexpr int kThreads = 128;

/// A number that depends on all of a and b (the finaliser of SplitMix64; Steele, Lea, Flood 2014).
__device__ std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t x = a * 0x9E3779B97F4A7C15ull + b * 0xD1B54A32D192ED03ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

/// Roughly normal: the sum of four uniform numbers, scaled to variance 1.
__device__ float normal(std::uint64_t bits) {
  float sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<float>(bits >> (16 * i) & 0xFFFF) / 65536.0f;
  return (sum - 2.0f) * 1.7320508f;
}

/// Draws the loads [kBatches, num_logical] of one launch. Batches take turns: mild and skewed
/// popularity with drift, few tokens (so that many ranks are equal), and a few huge experts among
/// empty ones.
__global__ void draw_loads(std::uint64_t launch, int num_logical, int* load) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= kBatches * num_logical) return;
  const int batch = i / num_logical;
  const int expert = i % num_logical;
  const std::uint64_t bits = mix(launch * kBatches + batch, expert);
  const float popularity = normal(mix(0, expert));
  const float drift = 0.34f * normal(bits);
  switch (batch % 4) {
    case 0:
      load[i] = static_cast<int>(1024.0f * expf(0.5f * popularity + drift));
      return;
    case 1:
      load[i] = static_cast<int>(512.0f * expf(1.2f * popularity + drift));
      return;
    case 2:
      load[i] = static_cast<int>(bits >> 62);
      return;
    default:
      load[i] = bits % 7 == 0 ? static_cast<int>(bits >> 43) : bits % 3 == 0 ? 1 : 0;
  }
}

/// Checks one batch in each thread; counts claims with faults, and notes all kinds of faults.
__global__ void check_claims(SlotView slots, int num_batches, SolvePointers p, unsigned* kinds,
                             int* num_failed) {
  const int batch = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (batch >= num_batches) return;
  const int physical = slots.num_ranks * slots.slots_per_rank;
  const DeviceOutcome& outcome = p.outcome[batch];
  const Claim claim{p.load + batch * slots.num_logical,
                    p.physical_load + batch * physical,
                    p.rank_load + batch * slots.num_ranks,
                    p.proof + batch * BlockState::words(slots.num_ranks),
                    outcome.max_load,
                    outcome.bound,
                    outcome.status == kDeviceOptimal};
  const unsigned faults = find_faults(slots, claim);
  if (faults == kNoFault) return;
  atomicOr(kinds, faults);
  atomicAdd(num_failed, 1);
}

template <class T>
void upload(device::Array<T>& to, const std::vector<T>& from) {
  to.reserve(from.size());
  LPLB_CUDA_CHECK(cudaMemcpy(to.get(), from.data(), from.size() * sizeof(T), cudaMemcpyDefault));
}

/// Batches of one placement: drawn, solved and checked on the device.
class Claims {
 public:
  Claims(const Placement& placement, Solver solver)
      : slots_(placement), split_(placement), solver_(solver) {
    upload(slot_begin_, slots_.slot_begin());
    upload(slot_, slots_.slot());
    view_ = slots_.view_at(slot_begin_.get(), slot_.get());
    const auto batches = static_cast<std::size_t>(kBatches);
    const auto ranks = static_cast<std::size_t>(placement.num_ranks);
    load_.reserve(batches * static_cast<std::size_t>(placement.num_logical_experts));
    physical_.reserve(batches * placement.physical_to_logical.size());
    rank_load_.reserve(batches * ranks);
    proof_.reserve(batches * (ranks / 32 + 1));
    outcome_.reserve(batches);
    failed_.reserve(1);
    kinds_.reserve(1);
    LPLB_CUDA_CHECK(cudaMemset(failed_.get(), 0, sizeof(int)));
    LPLB_CUDA_CHECK(cudaMemset(kinds_.get(), 0, sizeof(unsigned)));
    problem_.assign(split_.tables(), nullptr);
  }

  /// Draws and solves one launch of batches, and lets `spoil`, if given, change the results; then
  /// checks them.
  template <class Spoil>
  void run(std::uint64_t launch, Spoil spoil) {
    const int count = kBatches * view_.num_logical;
    draw_loads<<<(count + kThreads - 1) / kThreads, kThreads>>>(launch, view_.num_logical,
                                                                load_.get());
    SolvePointers p;
    p.load = load_.get();
    p.physical_load = physical_.get();
    p.rank_load = rank_load_.get();
    p.proof = proof_.get();
    p.outcome = outcome_.get();
    problem_.launch(nullptr, p, kBatches, solver_, -1);
    spoil(p);
    check_claims<<<kBatches / kThreads, kThreads>>>(view_, kBatches, p, kinds_.get(),
                                                    failed_.get());
    LPLB_CUDA_CHECK(cudaGetLastError());
  }
  void run(std::uint64_t launch) {
    run(launch, [](const SolvePointers&) {});
  }

  int num_failed() const { return read(failed_.get()); }
  unsigned kinds() const { return read(kinds_.get()); }

 private:
  template <class T>
  static T read(const T* from) {
    T value{};
    LPLB_CUDA_CHECK(cudaMemcpy(&value, from, sizeof(T), cudaMemcpyDeviceToHost));
    return value;
  }

  ClaimSlots slots_;
  SplitProblem split_;
  Solver solver_;
  DeviceProblem problem_;
  SlotView view_{};
  device::Array<int> slot_begin_, slot_, load_, physical_, rank_load_, failed_;
  device::Array<std::uint32_t> proof_;
  device::Array<unsigned> kinds_;
  device::Array<DeviceOutcome> outcome_;
};

class ClaimsCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().missing.empty()) GTEST_SKIP() << cuda_support().missing;
  }
};

TEST_F(ClaimsCuda, AreRight) {
  const char* const wanted = std::getenv("LPLB_PROVED_SOLVES");
  const long long solves = wanted != nullptr ? std::atoll(wanted) : 2 * kBatches;
  struct {
    const char* workload;
    Solver solver;
  } const shapes[] = {{"cube8x2", Solver::kCut},
                      {"cube8x2", Solver::kFlow},
                      {"torus8x4x2", Solver::kFlow},
                      {"EP64+64", Solver::kFlow}};
  for (const auto& shape : shapes) {
    SCOPED_TRACE(std::string(shape.workload) + " " + solver_name(shape.solver));
    Claims claims(testing::make_workload(shape.workload, 1).placement, shape.solver);
    std::uint64_t launch = 0;
    for (long long done = 0; done < solves; done += kBatches) claims.run(launch++);
    EXPECT_EQ(claims.num_failed(), 0);
    EXPECT_EQ(claims.kinds(), unsigned{kNoFault});
    std::printf("%s, %s: %llu solves, %d with faults\n", shape.workload, solver_name(shape.solver),
                static_cast<unsigned long long>(launch) * kBatches, claims.num_failed());
  }
}

__global__ void move_a_token(int* physical_load, int slots, int batch) {
  --physical_load[batch * slots];
  ++physical_load[batch * slots + slots - 1];
}

// A check that cannot fail would prove nothing: one token of one batch goes to another expert.
TEST_F(ClaimsCuda, AreFoundWrong) {
  const Placement placement = testing::make_workload("cube8x2", 1).placement;
  Claims claims(placement, Solver::kCut);
  claims.run(0, [&](const SolvePointers& p) {
    move_a_token<<<1, 1>>>(p.physical_load, static_cast<int>(placement.physical_to_logical.size()),
                           4711);
  });
  EXPECT_EQ(claims.num_failed(), 1);
  EXPECT_TRUE(claims.kinds() & kLostTokens);
}

}  // namespace
}  // namespace lplb::solvers
