// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#include <cuda_runtime_api.h>

// Instructions that CUDA C++ has no plain function for. (Tests that compile kernels for the CPU
// have their own: tests/support/emulated_block.h.) What needs compute capability 9.0 does nothing
// below it: the host launches no kernel there that relies on it.
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
/// Makes a group of the copies that this thread started since the last one.
__device__ inline void close_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// wait_for_copies() for all groups but the newest one.
__device__ inline void wait_for_older_copies() {
  asm volatile("cp.async.wait_group 1;" ::: "memory");
}

/// The value, as if it had come from memory: what is made of it is not made anew at every use.
__device__ inline int opaque(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

/// Of a word in shared memory, in bytes. hold_address() is as opaque().
using SharedAddress = std::uint32_t;
__device__ inline SharedAddress hold_address(const void* pointer) {
  SharedAddress address = shared_address(pointer);
  asm volatile("" : "+r"(address));
  return address;
}
__device__ inline int load_shared(SharedAddress from) {
  int value;
  asm volatile("ld.shared.s32 %0, [%1];" : "=r"(value) : "r"(from) : "memory");
  return value;
}
__device__ inline void store_shared(SharedAddress to, int value) {
  asm volatile("st.shared.s32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
}
/// Where `condition` holds, without a branch.
__device__ inline void store_shared_if(bool condition, SharedAddress to, int value) {
  asm volatile(
      "{\n\t.reg .pred p;\n\t"
      "setp.ne.s32 p, %0, 0;\n\t"
      "@p st.shared.s32 [%1], %2;\n\t}" ::"r"(static_cast<int>(condition)),
      "r"(to), "r"(value)
      : "memory");
}
/// Other threads may add there too.
__device__ inline void add_shared(SharedAddress to, int value) {
  asm volatile("red.shared.add.s32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
}

/// A barrier of the first `num_threads` threads of the block, whole warps.
__device__ inline void sync_team(int num_threads) {
  asm volatile("bar.sync 1, %0;" ::"r"(num_threads) : "memory");
}
/// For those of them that need not wait: the others, in sync_team(), wait for this too.
__device__ inline void arrive_at_team(int num_threads) {
  asm volatile("bar.arrive 1, %0;" ::"r"(num_threads) : "memory");
}
/// As sync_team(); whether any thread's `predicate` holds.
__device__ inline bool any_in_team(int num_threads, bool predicate) {
  int result;
  asm volatile(
      "{\n\t.reg .pred p, q;\n\t"
      "setp.ne.s32 p, %1, 0;\n\t"
      "bar.red.or.pred q, 1, %2, p;\n\t"
      "selp.s32 %0, 1, 0, q;\n\t}"
      : "=r"(result)
      : "r"(static_cast<int>(predicate)), "r"(num_threads)
      : "memory");
  return result != 0;
}

/// The two halves of a barrier of the cluster, which orders nothing but what open_mailbox() did.
/// Whole warps call them.
__device__ inline void arrive_at_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}
__device__ inline void wait_for_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

/// Counts what comes from other blocks of a cluster into this one's shared memory, once a kernel.
/// NOTE: a barrier of the cluster would have every thread wait for all its writes first.
struct alignas(8) Mailbox {
  std::uint64_t state;
};

/// One thread calls it, before a barrier of the cluster; then others may send.
__device__ inline void open_mailbox([[maybe_unused]] Mailbox* box) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(box)) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

/// One thread tells how much will come; some of it may have come before.
__device__ inline void expect_bytes([[maybe_unused]] Mailbox* box, [[maybe_unused]] int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(box)),
               "r"(bytes)
               : "memory");
#endif
}

/// Writes to the variable of `block` (its number in the cluster) that stands where `*shared` stands
/// in this one, and counts it in its `box`.
__device__ inline void send_to_block([[maybe_unused]] Mailbox* box, [[maybe_unused]] int* shared,
                                     [[maybe_unused]] int block, [[maybe_unused]] int value) {
#if __CUDA_ARCH__ >= 900
  std::uint32_t there;
  std::uint32_t box_there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
               : "=r"(there)
               : "r"(shared_address(shared)), "r"(block));
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
               : "=r"(box_there)
               : "r"(shared_address(box)), "r"(block));
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.s32 [%0], %1, [%2];" ::"r"(there),
      "r"(value), "r"(box_there)
      : "memory");
#endif
}

/// Waits until all of it has come; this thread sees it then.
__device__ inline void wait_for_mail([[maybe_unused]] Mailbox* box) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n\t.reg .pred done;\n"
      "again%=:\n\t"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], 0;\n\t"
      "@!done bra again%=;\n\t}" ::"r"(shared_address(box))
      : "memory");
#endif
}

/// Two words of 8 bytes, aligned to 16, in memory that other devices write and read: each word is
/// whole, their order is not known.
__device__ inline void store_words(void* to, unsigned long long a, unsigned long long b) {
  asm volatile("st.relaxed.sys.global.v2.b64 [%0], {%1, %2};" ::"l"(to), "l"(a), "l"(b) : "memory");
}
__device__ inline void load_words(const void* from, unsigned long long* a, unsigned long long* b) {
  asm volatile("ld.relaxed.sys.global.v2.b64 {%0, %1}, [%2];"
               : "=l"(*a), "=l"(*b)
               : "l"(from)
               : "memory");
}

/// A number that another device adds to; what that one wrote before is seen after it.
__device__ inline unsigned long long load_signal(const void* signal) {
  unsigned long long value;
  asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(signal) : "memory");
  return value;
}

/// Of a clock that all threads of the device share.
__device__ inline unsigned long long now_ns() {
  unsigned long long now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
  return now;
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
#endif  // __CUDACC__
