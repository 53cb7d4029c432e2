// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/fibers.h"

// Runs device functions on the CPU. Each thread of a block is a fiber, or a thread of the system
// under ThreadSanitizer, which so finds a barrier that is missing on the device (fibers.h). Each
// barrier, and each instruction of a full warp, is a barrier. Include this file before the device's
// sources, in one file of a program.
#if __has_include(<cuda_runtime_api.h>)
#include <cuda_runtime_api.h>
#else
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) double2 {
  double x, y;
};
#endif

#undef __device__
#undef __global__
#undef __host__
#undef __shared__
#undef __forceinline__
#undef __noinline__
#undef __grid_constant__
#undef __launch_bounds__
#undef __align__
#define __device__
#define __global__
#define __host__
#define __shared__
#define __forceinline__ inline
#define __noinline__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

#include "core/host_device.h"

// On the device these are visible from every namespace.
using std::max;
using std::min;

namespace lplb::emulated {

using device::kWarpSize;

struct Dim {
  unsigned x = 0, y = 0, z = 0;
};
struct Block;
struct Cluster;

/// What a thread of a block knows.
struct Context {
  Dim thread_index, block_index, block_size, grid_size;
  Block* block = nullptr;
  Cluster* cluster = nullptr;
  std::optional<Barrier::arrival_token> arrival;
};

/// Lets the threads of a warp exchange values.
class Warp {
 public:
  void sync() { barrier_.arrive_and_wait(); }

  /// Each lane gives a value of up to 8 bytes. combine(values) is called on each lane with the
  /// values of all lanes.
  template <class T, class Combine>
  auto exchange(T value, Combine combine) {
    static_assert(sizeof(T) <= sizeof(values_[0]));
    std::memcpy(&values_[context->thread_index.x % kWarpSize], &value, sizeof(T));
    sync();
    T values[kWarpSize];
    for (int i = 0; i < kWarpSize; ++i) std::memcpy(&values[i], &values_[i], sizeof(T));
    const auto result = combine(values);
    sync();
    return result;
  }

 private:
  Barrier barrier_{kWarpSize};
  std::uint64_t values_[kWarpSize] = {};
};

/// What the blocks of a cluster share.
struct Cluster {
  Cluster(int num_blocks, int num_threads) : barrier(num_blocks * num_threads) {}
  Barrier barrier;
  std::vector<unsigned char*> memory;  // shared memory of each block, with the same layout
};

struct Block {
  explicit Block(int num_threads) : barrier(num_threads) {
    for (int i = 0; i < num_threads / kWarpSize; ++i) warps.push_back(std::make_unique<Warp>());
  }
  /// Named barrier `name` of `num_threads` threads. The number must be the same in all calls for a
  /// block.
  Barrier& named(int name, int num_threads) {
    const auto i = static_cast<std::size_t>(name);
    std::call_once(made_[i], [&] { named_[i] = std::make_unique<Barrier>(num_threads); });
    return *named_[i];
  }
  Barrier& team(int num_threads) { return named(1, num_threads); }

  std::vector<std::unique_ptr<Warp>> warps;
  Barrier barrier;
  std::atomic<int> votes{0};

 private:
  std::array<std::once_flag, 16> made_;
  std::array<std::unique_ptr<Barrier>, 16> named_;
};

inline Warp& warp() { return *context->block->warps[context->thread_index.x / kWarpSize]; }

/// Returns where block `to` of the cluster has the variable that is at `mine` in this block.
template <class T>
T* in_block(T* mine, int to) {
  const auto offset =
      reinterpret_cast<unsigned char*>(mine) - context->cluster->memory[context->block_index.x];
  return reinterpret_cast<T*>(context->cluster->memory[static_cast<std::size_t>(to)] + offset);
}

/// Runs clusters at the same time and calls body(cluster) on each of their threads.
/// memory[cluster][block] is the memory of a block. A block has `num_threads` threads, a multiple
/// of 32.
template <class Body>
void run_clusters(const std::vector<std::vector<unsigned char*>>& memory, int num_threads,
                  Body body) {
  std::vector<std::unique_ptr<Cluster>> clusters;
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<Context> contexts;
  std::vector<std::size_t> cluster_of;
  for (std::size_t c = 0; c < memory.size(); ++c) {
    const auto num_blocks = static_cast<int>(memory[c].size());
    clusters.push_back(std::make_unique<Cluster>(num_blocks, num_threads));
    clusters[c]->memory = memory[c];
    for (int b = 0; b < num_blocks; ++b) {
      blocks.push_back(std::make_unique<Block>(num_threads));
      for (int i = 0; i < num_threads; ++i) {
        contexts.push_back({.thread_index = {.x = static_cast<unsigned>(i)},
                            .block_index = {.x = static_cast<unsigned>(b)},
                            .block_size = {.x = static_cast<unsigned>(num_threads)},
                            .grid_size = {.x = static_cast<unsigned>(num_blocks)},
                            .block = blocks.back().get(),
                            .cluster = clusters[c].get(),
                            .arrival = {}});
        cluster_of.push_back(c);
      }
    }
  }
  run_together(static_cast<int>(contexts.size()), [&](int i) {
    context = &contexts[static_cast<std::size_t>(i)];
    body(cluster_of[static_cast<std::size_t>(i)]);
  });
}

/// Runs one block.
template <class Body>
void run_block(int num_threads, Body body) {
  run_clusters({{nullptr}}, num_threads, [&](std::size_t) { body(); });
}

template <class T, class Operation>
T reduce(T value, Operation operation) {
  return warp().exchange(value, [&](const T* values) {
    T result = values[0];
    for (int i = 1; i < kWarpSize; ++i) result = operation(result, values[i]);
    return result;
  });
}

template <class T, class Operation>
T update(T* variable, T value, Operation operation) {
  std::atomic_ref<T> shared(*variable);
  T before = shared.load(std::memory_order_relaxed);
  while (
      !shared.compare_exchange_weak(before, operation(before, value), std::memory_order_relaxed)) {
  }
  return before;
}

}  // namespace lplb::emulated

#define threadIdx ::lplb::emulated::context->thread_index
#define blockIdx ::lplb::emulated::context->block_index
#define blockDim ::lplb::emulated::context->block_size
#define gridDim ::lplb::emulated::context->grid_size

inline void __syncwarp() { lplb::emulated::warp().sync(); }
inline void __syncthreads() { lplb::emulated::context->block->barrier.arrive_and_wait(); }
inline int __syncthreads_or(int predicate) {
  lplb::emulated::Block& block = *lplb::emulated::context->block;
  if (predicate != 0) block.votes.store(1, std::memory_order_relaxed);
  __syncthreads();
  const int any = block.votes.load(std::memory_order_relaxed);
  __syncthreads();
  if (threadIdx.x == 0) block.votes.store(0, std::memory_order_relaxed);
  __syncthreads();
  return any;
}
inline int __popc(unsigned word) { return std::popcount(word); }
inline int __ffs(int word) {
  return word == 0 ? 0 : std::countr_zero(static_cast<unsigned>(word)) + 1;
}
inline int __ffs(unsigned word) { return __ffs(static_cast<int>(word)); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(std::uint64_t{a} * b >> 32);
}
/// Selects four of the eight bytes of {high, low} by the nibbles of `selector`. The sign mode is
/// not supported.
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const std::uint64_t bytes = std::uint64_t{high} << 32 | low;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    result |= static_cast<unsigned>(bytes >> (8 * (selector >> 4 * i & 7)) & 0xFF) << 8 * i;
  }
  return result;
}

inline unsigned __ballot_sync(unsigned, bool predicate) {
  return lplb::emulated::warp().exchange(predicate, [](const bool* values) {
    unsigned votes = 0;
    for (int i = 0; i < lplb::device::kWarpSize; ++i) votes |= (values[i] ? 1u : 0u) << i;
    return votes;
  });
}
template <class T>
unsigned __match_any_sync(unsigned, T value) {
  return lplb::emulated::warp().exchange(value, [&](const T* values) {
    unsigned same = 0;
    for (int i = 0; i < lplb::device::kWarpSize; ++i) same |= (values[i] == value ? 1u : 0u) << i;
    return same;
  });
}
inline bool __all_sync(unsigned mask, bool predicate) {
  return __ballot_sync(mask, predicate) == ~0u;
}
inline bool __any_sync(unsigned mask, bool predicate) {
  return __ballot_sync(mask, predicate) != 0;
}
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return lplb::emulated::warp().exchange(value, [&](const T* values) { return values[lane]; });
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
  const auto lane = static_cast<int>(threadIdx.x % lplb::device::kWarpSize);
  return __shfl_sync(mask, value, lane ^ bits);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int lanes) {
  const auto lane = static_cast<int>(threadIdx.x % lplb::device::kWarpSize);
  return __shfl_sync(mask, value, min(lane + lanes, lplb::device::kWarpSize - 1));
}
template <class T>
T __reduce_add_sync(unsigned, T value) {
  return lplb::emulated::reduce(value, [](T a, T b) { return static_cast<T>(a + b); });
}
template <class T>
T __reduce_min_sync(unsigned, T value) {
  return lplb::emulated::reduce(value, [](T a, T b) { return std::min(a, b); });
}
template <class T>
T __reduce_max_sync(unsigned, T value) {
  return lplb::emulated::reduce(value, [](T a, T b) { return std::max(a, b); });
}
inline unsigned __reduce_or_sync(unsigned, unsigned value) {
  return lplb::emulated::reduce(value, [](unsigned a, unsigned b) { return a | b; });
}

template <class T>
T atomicAdd(T* variable, std::type_identity_t<T> value) {
  return lplb::emulated::update(variable, value, [](T a, T b) { return static_cast<T>(a + b); });
}
template <class T>
T atomicMax(T* variable, std::type_identity_t<T> value) {
  return lplb::emulated::update(variable, value, [](T a, T b) { return std::max(a, b); });
}
template <class T>
T atomicMin(T* variable, std::type_identity_t<T> value) {
  return lplb::emulated::update(variable, value, [](T a, T b) { return std::min(a, b); });
}
template <class T>
T atomicOr(T* variable, std::type_identity_t<T> value) {
  return lplb::emulated::update(variable, value, [](T a, T b) { return static_cast<T>(a | b); });
}
template <class T>
T atomicAnd(T* variable, std::type_identity_t<T> value) {
  return lplb::emulated::update(variable, value, [](T a, T b) { return static_cast<T>(a & b); });
}

namespace lplb::device {

inline void copy_16(void* shared, const void* global) { std::memcpy(shared, global, 16); }
inline void copy_8(void* shared, const void* global) { std::memcpy(shared, global, 8); }
inline void copy_4(void* shared, const void* global) { std::memcpy(shared, global, 4); }
inline void wait_for_copies() {}
inline void close_copies() {}
inline int opaque(int value) { return value; }
inline void wait_for_older_copies() {}

using SharedAddress = std::uintptr_t;
inline SharedAddress hold_address(const void* pointer) {
  return reinterpret_cast<SharedAddress>(pointer);
}
inline int load_shared(SharedAddress from) { return *reinterpret_cast<const int*>(from); }
inline int load_shared_if(bool condition, SharedAddress from) {
  return condition ? load_shared(from) : 0x5A5A5A5A;
}
inline void store_shared(SharedAddress to, int value) { *reinterpret_cast<int*>(to) = value; }
inline void store_shared_if(bool condition, SharedAddress to, int value) {
  if (condition) *reinterpret_cast<int*>(to) = value;
}
inline void add_shared(SharedAddress to, int value) {
  atomicAdd(reinterpret_cast<int*>(to), value);
}

inline void arrive_at_cluster() {
  emulated::context->arrival.emplace(emulated::context->cluster->barrier.arrive());
}
inline void wait_for_cluster() {
  emulated::context->cluster->barrier.wait(std::move(*emulated::context->arrival));
}

/// `state` is the number of bytes that have come, plus 2^32 times the number that is expected.
struct alignas(8) Mailbox {
  std::uint64_t state;
};
inline void open_mailbox(Mailbox* box) { box->state = 0; }
inline void expect_bytes(Mailbox* box, int bytes) {
  std::atomic_ref(box->state) += std::uint64_t{static_cast<unsigned>(bytes)} << 32;
}
inline void send_to_block(Mailbox* box, int* shared, int to, int value) {
  *emulated::in_block(shared, to) = value;
  std::atomic_ref(emulated::in_block(box, to)->state) += sizeof(value);
}
inline void wait_for_mail(Mailbox* box) {
  for (;;) {
    const std::uint64_t state = std::atomic_ref(box->state).load();
    if (state != 0 && state >> 32 == (state & 0xFFFFFFFFu)) return;
    emulated::yield();
  }
}

inline void store_words(void* to, unsigned long long a, unsigned long long b) {
  auto* const words = static_cast<unsigned long long*>(to);
  std::atomic_ref(words[1]).store(b, std::memory_order_relaxed);
  std::atomic_ref(words[0]).store(a, std::memory_order_relaxed);
}
inline void load_words(const void* from, unsigned long long* a, unsigned long long* b) {
  emulated::yield();  // it is called in a loop that waits for others
  auto* const words = static_cast<unsigned long long*>(const_cast<void*>(from));
  *a = std::atomic_ref(words[0]).load(std::memory_order_relaxed);
  *b = std::atomic_ref(words[1]).load(std::memory_order_relaxed);
}
inline unsigned long long load_signal(const void* signal) {
  auto* const value = static_cast<unsigned long long*>(const_cast<void*>(signal));
  emulated::yield();  // the same
  return std::atomic_ref(*value).load(std::memory_order_acquire);
}
inline unsigned long long now_ns() {
  return static_cast<unsigned long long>(std::chrono::steady_clock::now().time_since_epoch() /
                                         std::chrono::nanoseconds(1));
}

inline void sync_team(int num_threads) {
  emulated::context->block->team(num_threads).arrive_and_wait();
}
template <int kName, int kThreads>
void sync_named() {
  emulated::context->block->named(kName, kThreads).arrive_and_wait();
}
template <int kName, int kThreads>
void arrive_at_named() {
  static_cast<void>(emulated::context->block->named(kName, kThreads).arrive());
}
inline void raise_flag(int* flag) { std::atomic_ref(*flag).store(1, std::memory_order_relaxed); }
inline bool is_raised(int* flag) {
  return std::atomic_ref(*flag).load(std::memory_order_relaxed) != 0;
}
inline int read_relaxed(const int* variable) {
  return std::atomic_ref(*const_cast<int*>(variable)).load(std::memory_order_relaxed);
}
inline bool any_in_team(int num_threads, bool predicate) {
  emulated::Block& block = *emulated::context->block;
  if (predicate) block.votes.store(1, std::memory_order_relaxed);
  sync_team(num_threads);
  const bool any = block.votes.load(std::memory_order_relaxed) != 0;
  sync_team(num_threads);
  if (threadIdx.x == 0) block.votes.store(0, std::memory_order_relaxed);
  sync_team(num_threads);
  return any;
}

}  // namespace lplb::device
