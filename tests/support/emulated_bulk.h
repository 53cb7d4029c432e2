// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>

#include "support/emulated_block.h"

// Takes the place of core/bulk.cuh on the CPU. A load or store copies at once.
namespace lplb::device {

inline constexpr bool kHasBulkCopies = true;

/// The number of loads that have come.
struct alignas(8) LoadBarrier {
  std::uint64_t state;
};
inline void open_barrier(LoadBarrier* barrier) { barrier->state = 0; }
inline void order_bulk_copies() {}
inline void load_bulk(void* shared, const void* global, int bytes, LoadBarrier* barrier) {
  std::memcpy(shared, global, static_cast<std::size_t>(bytes));
  std::atomic_ref(barrier->state).fetch_add(1, std::memory_order_release);
}
inline void wait_for_load(LoadBarrier* barrier, unsigned parity) {
  // As on the device: the load of this parity has come if the number of loads has the other one.
  while ((std::atomic_ref(barrier->state).load(std::memory_order_acquire) & 1) == parity) {
    emulated::yield();
  }
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
inline void store_signal(void* signal, unsigned long long value) {
  std::atomic_ref(*static_cast<unsigned long long*>(signal))
      .store(value, std::memory_order_release);
}
inline unsigned count_up(unsigned* counter) {
  return std::atomic_ref(*counter).fetch_add(1, std::memory_order_acq_rel);
}

}  // namespace lplb::device
