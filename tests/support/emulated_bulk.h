// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>

#include "support/emulated_block.h"

// Takes the place of core/bulk.cuh on the CPU. A load or store copies at once.
namespace lplb::device {

inline constexpr bool kHasBulkCopies = true;

/// `state` is the number of loads or threads that have come.
struct alignas(8) LoadBarrier {
  std::uint64_t state;
  std::uint64_t count;
};
inline void open_barrier(LoadBarrier* barrier, int count = 1) {
  *barrier = {0, static_cast<std::uint64_t>(count)};
}
inline void order_bulk_copies() {}
inline void arrive_at(LoadBarrier* barrier) {
  std::atomic_ref(barrier->state).fetch_add(1, std::memory_order_acq_rel);
}
inline void load_bulk(void* shared, const void* global, int bytes, LoadBarrier* barrier) {
  std::memcpy(shared, global, static_cast<std::size_t>(bytes));
  arrive_at(barrier);
}
/// As on the device: a phase is over if the next one, of the other parity, has begun.
inline void wait_for_phase(LoadBarrier* barrier, unsigned parity) {
  const auto phase = [barrier] {
    return std::atomic_ref(barrier->state).load(std::memory_order_acquire) / barrier->count;
  };
  while ((phase() & 1) == parity) emulated::yield();
}
inline void store_bulk(void* global, const void* shared, int bytes) {
  std::memcpy(global, shared, static_cast<std::size_t>(bytes));
}
inline void wait_for_older_stores() {}
inline void wait_for_stores() {}
inline uint4 load_far(const void* from) {
  uint4 v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
inline unsigned long long load_counter(const void* counter) {
  auto* const value = static_cast<unsigned long long*>(const_cast<void*>(counter));
  return std::atomic_ref(*value).load(std::memory_order_relaxed);
}
/// Not for NaN.
inline unsigned to_bfloat16_pair(float low, float high) {
  const auto round = [](float value) {
    const auto bits = std::bit_cast<unsigned>(value);
    return bits + 0x7FFFu + (bits >> 16 & 1u);
  };
  return round(low) >> 16 | (round(high) & 0xFFFF0000u);
}
inline void store_signal(void* signal, unsigned long long value) {
  std::atomic_ref(*static_cast<unsigned long long*>(signal))
      .store(value, std::memory_order_release);
}
inline void fence_system() {}
inline unsigned count_up(unsigned* counter) {
  return std::atomic_ref(*counter).fetch_add(1, std::memory_order_acq_rel);
}

}  // namespace lplb::device
