// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/device.h"

namespace lplb::testing {

/// Memory of the device that tests fill and read. It may start at any element of an allocation.
template <class T>
class DeviceVector {
 public:
  DeviceVector() = default;
  explicit DeviceVector(const std::vector<T>& values) { set(values); }

  /// `offset` is the number of elements between the allocation's start and data().
  void set(const std::vector<T>& values, std::size_t offset = 0) {
    size_ = values.size();
    offset_ = offset;
    array_.reserve(size_ + offset + 1);
    if (size_ == 0) return;
    LPLB_CUDA_CHECK(cudaMemcpy(data(), values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
    // NOTE: cudaMemcpy() from pageable memory may return before the data is on the device, so other
    // streams could read too early.
    LPLB_CUDA_CHECK(cudaDeviceSynchronize());
  }

  std::vector<T> get() const {
    std::vector<T> values(size_);
    if (size_ != 0) {
      LPLB_CUDA_CHECK(cudaMemcpy(values.data(), data(), size_ * sizeof(T), cudaMemcpyDeviceToHost));
    }
    return values;
  }

  std::size_t size() const { return size_; }
  T* data() const { return array_.get() + offset_; }

 private:
  device::Array<T> array_;
  std::size_t size_ = 0;
  std::size_t offset_ = 0;
};

/// Captures what a stream is given between the constructor and end(). It can be replayed any number
/// of times.
class CapturedGraph {
 public:
  explicit CapturedGraph(cudaStream_t stream) : stream_(stream) {
    LPLB_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  }
  ~CapturedGraph() {
    if (exec_ != nullptr) (void)cudaGraphExecDestroy(exec_);
    if (graph_ != nullptr) (void)cudaGraphDestroy(graph_);
  }
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;

  void end() {
    LPLB_CUDA_CHECK(cudaStreamEndCapture(stream_, &graph_));
    LPLB_CUDA_CHECK(cudaGraphInstantiate(&exec_, graph_, 0));
  }
  void launch() const { LPLB_CUDA_CHECK(cudaGraphLaunch(exec_, stream_)); }
  /// Launches the graph and waits for it.
  void replay() const {
    launch();
    LPLB_CUDA_CHECK(cudaStreamSynchronize(stream_));
  }

 private:
  cudaStream_t stream_;
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t exec_ = nullptr;
};

}  // namespace lplb::testing
