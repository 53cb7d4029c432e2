// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

// Instructions that CUDA C++ has no plain function for. What needs compute capability 9.0 does
// nothing below it: the host launches no kernel there that relies on it.
namespace lplb::device {

__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// Starts a copy of 16 bytes (8, 4) from global to shared memory, both aligned to that size.
/// This thread sees it after wait_for_copies(), the block after a barrier more.
__device__ inline void copy_16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)),
               "l"(global)
               : "memory");
}
__device__ inline void copy_8(void* shared, const void* global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(shared_address(shared)), "l"(global)
               : "memory");
}
__device__ inline void copy_4(void* shared, const void* global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(shared)), "l"(global)
               : "memory");
}
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// The two halves of a barrier of the cluster. What a thread wrote before it arrives, to the shared
/// memory of any block, all threads see after they have waited. Whole warps call them.
__device__ inline void arrive_at_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
__device__ inline void wait_for_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

/// Writes to the variable of `block` (its number in the cluster) that stands where `*shared` stands
/// in this one. NOTE: all blocks of the cluster have started, and `block` has not ended.
__device__ inline void store_in_block([[maybe_unused]] int* shared, [[maybe_unused]] int block,
                                      [[maybe_unused]] int value) {
#if __CUDA_ARCH__ >= 900
  std::uint32_t there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
               : "=r"(there)
               : "r"(shared_address(shared)), "r"(block));
  asm volatile("st.shared::cluster.s32 [%0], %1;" ::"r"(there), "r"(value) : "memory");
#endif
}

/// Waits until the kernel ahead in the stream has ended, where this one was launched early.
__device__ inline void wait_for_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Allows the kernel behind to start, if it was launched to start early: once all blocks have said
/// so.
__device__ inline void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace lplb::device
