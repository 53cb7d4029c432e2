// SPDX-License-Identifier: MIT
#include <chrono>
#include <cmath>
#include <ctime>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/cuda_bench.h"
#include "lplb/homes.h"
#include "support/instances.h"

// Benchmarks of place_homes() on the device: whole calls, by the clock, with what the host does and
// with the device memory that each call allocates.
namespace lplb::bench {
namespace {

constexpr int kCalls = 9;

struct Shape {
  const char* name;
  Index layers, experts, ranks, slots;
  CudaTarget must, aim;
};
constexpr Shape kShapes[] = {{"58x256x64x5", 58, 256, 64, 5, {500'000, 0}, {100'000, 0}},
                             {"58x256x8x34", 58, 256, 8, 34, {}, {}},
                             {"61x256x128x3", 61, 256, 128, 3, {}, {}}};

/// A window of 8 batches [8, layers, experts] that drift from each layer's popularity.
std::vector<double> make_window(const Shape& shape, double sigma) {
  testing::SplitMix64 random(1);
  const Load total = Load{4096} * 8 * shape.ranks;
  std::vector<std::vector<Load>> popularity;
  for (Index i = 0; i < shape.layers; ++i) {
    popularity.push_back(testing::hard_popularity(shape.experts, sigma, total, random));
  }
  std::vector<double> loads;
  for (int batch = 0; batch < 8; ++batch) {
    for (const std::vector<Load>& layer : popularity) {
      const std::vector<Load> load =
          testing::hard_batch({layer.data(), layer.size()}, total, random);
      loads.insert(loads.end(), load.begin(), load.end());
    }
  }
  return loads;
}

/// Throws unless every result is that of the CPU.
CudaTiming time_places(const Shape& shape, double sigma, bool from_old) {
  const std::vector<double> loads = make_window(shape, sigma);
  std::vector<Placement> old;
  const auto place = [&](Backend backend) {
    HomesOptions options;
    options.backend = backend;
    options.num_threads = 4;
    return place_homes({loads.data(), loads.size()}, 8, shape.layers, shape.experts,
                       shape.ranks * shape.slots, shape.ranks, {old.data(), old.size()}, options);
  };
  if (from_old) {
    const std::vector<double> before = make_window(shape, 0.9 * sigma);
    const HomesPlacement first =
        place_homes({before.data(), before.size()}, 8, shape.layers, shape.experts,
                    shape.ranks * shape.slots, shape.ranks, {}, {.max_trials = 100});
    for (Index i = 0; i < shape.layers; ++i) {
      old.push_back(make_placement(shape.ranks, shape.experts, first.maps.layer(i)));
    }
  }
  const std::clock_t begin = std::clock();
  const HomesPlacement want = place(Backend::kCpu);
  const double cpu_seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  std::vector<double> times;
  for (int call = -1; call < kCalls; ++call) {
    const auto start = std::chrono::steady_clock::now();
    const HomesPlacement got = place(Backend::kCuda);
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
    if (got.maps.physical_to_logical != want.maps.physical_to_logical ||
        got.trials != want.trials || got.judged != want.judged || got.moves != want.moves) {
      throw std::runtime_error("a placement is not that of the CPU");
    }
    if (call >= 0) times.push_back(time.count());
  }
  std::int64_t trials = 0;
  for (const std::int64_t t : want.trials) trials += t;
  CudaTiming timing = summarize(std::move(times));
  timing.note = std::to_string(trials) + " trials; on the CPU " +
                std::to_string(std::lround(1000 * cpu_seconds)) + " ms of processor time";
  return timing;
}

void add_places(const std::vector<Case>&, std::vector<CudaBenchmark>& benchmarks) {
  for (const Shape& shape : kShapes) {
    const std::string name = shape.name;
    benchmarks.push_back({"place/mild:" + name, shape.must, shape.aim,
                          [=] { return time_places(shape, 0.5, false); }});
    benchmarks.push_back({"place/skew:" + name, shape.must, shape.aim,
                          [=] { return time_places(shape, 1.2, false); }});
    benchmarks.push_back({"place/skew:" + name + "/from-old", shape.must, shape.aim,
                          [=] { return time_places(shape, 1.2, true); }});
  }
}

[[maybe_unused]] const bool registered = (cuda_suites().push_back(add_places), true);

}  // namespace
}  // namespace lplb::bench
