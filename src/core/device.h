// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <utility>

namespace lplb::device {

/// Throws CudaError("CALL: what went wrong") unless `status` is cudaSuccess.
void check(cudaError_t status, const char* call);

#define LPLB_CUDA_CHECK(call) ::lplb::device::check((call), #call)

/// A stream that does not wait for the default stream.
class Stream {
 public:
  Stream() { LPLB_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() {
    if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// An event: one side records it, another side waits for it, or asks whether it has passed.
class Event {
 public:
  Event() { LPLB_CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~Event() { (void)cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(cudaStream_t stream) { LPLB_CUDA_CHECK(cudaEventRecord(event_, stream)); }
  void wait() const { LPLB_CUDA_CHECK(cudaEventSynchronize(event_)); }
  /// Whatever is enqueued on `stream` after this call waits for the event.
  void hold(cudaStream_t stream) const { LPLB_CUDA_CHECK(cudaStreamWaitEvent(stream, event_)); }
  bool has_passed() const {
    const cudaError_t status = cudaEventQuery(event_);
    if (status == cudaErrorNotReady) return false;
    LPLB_CUDA_CHECK(status);
    return true;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Memory of the current device, or pinned memory of the host. It grows and never shrinks. When it
/// grows, its contents are lost.
template <class T, bool kPinned = false>
class Array {
 public:
  Array() = default;
  explicit Array(std::size_t size) { reserve(size); }
  ~Array() { free(); }
  Array(Array&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), capacity_(std::exchange(other.capacity_, 0)) {}
  Array& operator=(Array&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }

  void reserve(std::size_t size) {
    if (size <= capacity_) return;
    free();
    void* memory = nullptr;
    if constexpr (kPinned) {
      LPLB_CUDA_CHECK(cudaMallocHost(&memory, size * sizeof(T)));
    } else {
      LPLB_CUDA_CHECK(cudaMalloc(&memory, size * sizeof(T)));
    }
    data_ = static_cast<T*>(memory);
    capacity_ = size;
  }

  T* get() const { return data_; }
  std::size_t capacity() const { return capacity_; }

 private:
  /// NOTE: errors are ignored, because they come from earlier work, which reports them itself.
  void free() noexcept {
    if (data_ == nullptr) return;
    if constexpr (kPinned) {
      (void)cudaFreeHost(data_);
    } else {
      (void)cudaFree(data_);
    }
    data_ = nullptr;
    capacity_ = 0;
  }

  T* data_ = nullptr;
  std::size_t capacity_ = 0;
};

template <class T>
using HostArray = Array<T, true>;

/// Pinned memory from which the host sends updates to the device. There are two buffers in turn, so
/// that the next update can be written while the previous one is still being copied.
template <class T>
class Staging {
 public:
  void reserve(std::size_t size) {
    for (Buffer& buffer : buffers_) buffer.data.reserve(size);
  }

  /// The buffer to write next. Waits for the last copy from it.
  T* next() {
    turn_ = 1 - turn_;
    buffers_[turn_].copied.wait();
    return buffers_[turn_].data.get();
  }
  /// To be called after the copies from next() are enqueued. NOTE: without it, the update after the
  /// next one would overwrite what a copy is still reading.
  void sent(cudaStream_t stream) { buffers_[turn_].copied.record(stream); }

 private:
  struct Buffer {
    HostArray<T> data;
    Event copied;  // counts as passed before it is first recorded
  };
  Buffer buffers_[2];
  int turn_ = 0;
};

/// The id of the capture that `stream` is in; 0: it is not being captured.
unsigned long long capture_of(cudaStream_t stream);

/// Throws ArgumentError("stream") if `stream` is being captured. `what` names what must not be
/// captured.
void check_no_capture(cudaStream_t stream, const char* what);

/// Throws ArgumentError(`name`) unless `pointer` is a multiple of `bytes`.
void check_aligned(const void* pointer, std::size_t bytes, const char* name);

/// Throws CudaError unless a device of a compiled architecture can be used.
void require();

}  // namespace lplb::device
