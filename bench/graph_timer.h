// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

#include "core/device.h"

namespace lplb::bench {

/// Measures how many microseconds one node of a CUDA graph takes if `repeats` of it run one after
/// the other: the median of `replays` replays. METHOD.md describes this for the GPU benchmarks.
class GraphTimer {
 public:
  GraphTimer() {
    LPLB_CUDA_CHECK(cudaEventCreate(&begin_));
    LPLB_CUDA_CHECK(cudaEventCreate(&end_));
  }
  ~GraphTimer() {
    (void)cudaEventDestroy(begin_);
    (void)cudaEventDestroy(end_);
  }
  GraphTimer(const GraphTimer&) = delete;
  GraphTimer& operator=(const GraphTimer&) = delete;

  cudaStream_t stream() const { return stream_.get(); }

  /// Returns that time. `launch` enqueues the work on stream().
  double time_us(const std::function<void()>& launch, int repeats = 20, int replays = 7) {
    std::vector<double> times = times_us(launch, repeats, replays, 2);
    std::nth_element(times.begin(), times.begin() + replays / 2, times.end());
    return times[static_cast<std::size_t>(replays / 2)];
  }

  /// Returns the times of `replays` replays. Before these it runs `warm_up` replays that are not
  /// counted. The number of replays is fixed, for work that takes part in rounds of several ranks.
  /// `begin` is called when everything is ready for the first replay.
  std::vector<double> times_us(
      const std::function<void()>& launch, int repeats, int replays, int warm_up,
      const std::function<void()>& begin = [] {}) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    LPLB_CUDA_CHECK(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < repeats; ++i) launch();
    LPLB_CUDA_CHECK(cudaStreamEndCapture(stream(), &graph));
    LPLB_CUDA_CHECK(cudaGraphInstantiate(&exec, graph, 0));
    LPLB_CUDA_CHECK(cudaGraphUpload(exec, stream()));
    LPLB_CUDA_CHECK(cudaStreamSynchronize(stream()));
    begin();
    std::vector<double> times;
    for (int i = -warm_up; i < replays; ++i) {
      LPLB_CUDA_CHECK(cudaEventRecord(begin_, stream()));
      LPLB_CUDA_CHECK(cudaGraphLaunch(exec, stream()));
      LPLB_CUDA_CHECK(cudaEventRecord(end_, stream()));
      LPLB_CUDA_CHECK(cudaEventSynchronize(end_));
      float milliseconds = 0;
      LPLB_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin_, end_));
      if (i >= 0) times.push_back(1000.0 * static_cast<double>(milliseconds) / repeats);
    }
    (void)cudaGraphExecDestroy(exec);
    (void)cudaGraphDestroy(graph);
    return times;
  }

 private:
  device::Stream stream_;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

}  // namespace lplb::bench
