// SPDX-License-Identifier: MIT
#pragma once

#include "core/ptx.cuh"

#ifdef __CUDACC__

// Copies of thousands of bytes by the copy engine of a multiprocessor, and signals between devices.
// The copies need compute capability 9.0 and do nothing on older devices, for which kernels have
// another path. Addresses and sizes are multiples of 16. Tests that compile kernels for the CPU
// have their own versions: tests/support/emulated_bulk.h.
namespace lplb::device {

/// Whether the device that is compiled for has bulk copies.
#if __CUDA_ARCH__ >= 900
inline constexpr bool kHasBulkCopies = true;
#else
inline constexpr bool kHasBulkCopies = false;
#endif

/// Counts what has come to it (an mbarrier): a bulk load, or arrivals of threads. When `count` of
/// these have come, a phase of the barrier is over and the next one begins. The n-th phase, counted
/// from 0, has the parity n & 1.
struct alignas(8) LoadBarrier {
  std::uint64_t state;
};

/// One thread calls it, before a barrier of the block.
__device__ inline void open_barrier([[maybe_unused]] LoadBarrier* barrier,
                                    [[maybe_unused]] int count = 1) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count)
               : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

/// Bulk copies of this thread see what ordinary loads and stores before it have seen and written.
/// NOTE: without it a bulk load may read memory from before the signal that the thread waited for.
__device__ inline void order_bulk_copies() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async;" ::: "memory");
#endif
}

/// Starts a copy from global to shared memory. One thread calls it for all.
__device__ inline void load_bulk([[maybe_unused]] void* shared, [[maybe_unused]] const void* global,
                                 [[maybe_unused]] int bytes,
                                 [[maybe_unused]] LoadBarrier* barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
#endif
}

/// A thread has come to the barrier. What it has read or written before comes before what others do
/// after they have waited for this phase.
__device__ inline void arrive_at([[maybe_unused]] LoadBarrier* barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
#endif
}

/// Waits until the phase of this parity is over. The calling thread sees the bytes of its load.
__device__ inline void wait_for_phase([[maybe_unused]] LoadBarrier* barrier,
                                      [[maybe_unused]] unsigned parity) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n\t.reg .pred done;\n"
      "again%=:\n\t"
      "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 done, [%0], %1;\n\t"
      "@!done bra again%=;\n\t}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
#endif
}

/// Starts a copy from shared to global memory, of what a bulk load brought.
__device__ inline void store_bulk([[maybe_unused]] void* global,
                                  [[maybe_unused]] const void* shared, [[maybe_unused]] int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(global),
               "r"(shared_address(shared)), "r"(bytes)
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#endif
}

/// Waits until all bulk stores of this thread but the newest one have read shared memory.
__device__ inline void wait_for_older_stores() {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.wait_group.read 1;" ::: "memory");
#endif
}
/// Waits until all bulk stores of this thread have been written.
__device__ inline void wait_for_stores() {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
#endif
}

/// Loads 16 bytes that another device may have written, past the caches of this multiprocessor.
__device__ inline uint4 load_far(const void* from) {
  uint4 v;
  asm volatile("ld.relaxed.sys.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from)
               : "memory");
  return v;
}

/// Loads a counter of any device. Unlike load_signal(), the thread waits for the value only when it
/// uses it.
__device__ inline unsigned long long load_counter(const void* counter) {
  unsigned long long value;
  asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(counter) : "memory");
  return value;
}

/// Rounds two floats to bfloat16, to the nearest, ties to even: `low` in the lower half.
__device__ inline unsigned to_bfloat16_pair(float low, float high) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

/// Stores a word for load_signal() of any device. Whoever sees it, sees all that this thread and,
/// before a barrier of the block, the block's other threads have written, and earlier kernels of
/// the stream.
__device__ inline void store_signal(void* signal, unsigned long long value) {
  asm volatile("st.release.sys.global.u64 [%0], %1;" ::"l"(signal), "l"(value) : "memory");
}

/// What this thread has written before comes, for all devices, before what it writes after.
__device__ inline void fence_system() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }

/// Adds 1 to a counter of this device and returns what it was. Whoever comes later sees all that
/// the earlier ones have written.
__device__ inline unsigned count_up(unsigned* counter) {
  unsigned before;
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;"
               : "=r"(before)
               : "l"(counter)
               : "memory");
  return before;
}

}  // namespace lplb::device
#endif  // __CUDACC__
