// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#include <cuda_runtime_api.h>

// Instructions for which CUDA C++ has no plain function. Tests that compile kernels for the CPU
// have their own versions: tests/support/emulated_block.h. Functions that need compute
// capability 9.0 do nothing on older devices; the host launches no kernel there that relies on
// them.
namespace lplb::device {

/// The address of a variable in shared memory, as instructions take it.
__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// Starts a copy of 16 bytes (8, 4) from global to shared memory, both aligned to that size. After
/// wait_for_copies() this thread sees the bytes, and after another barrier the block does.
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
/// Makes a group of the copies that this thread has started since the previous group.
__device__ inline void close_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// wait_for_copies() for all groups but the newest one.
__device__ inline void wait_for_older_copies() {
  asm volatile("cp.async.wait_group 1;" ::: "memory");
}

/// Returns `value`, but the compiler cannot know what it is made from. So it keeps results that
/// follow from it in registers, and does not compute them again at every use.
__device__ inline int opaque(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

/// The address of a word in shared memory, in bytes. hold_address() hides its origin from the
/// compiler, as opaque() does.
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
/// Loads if `condition` holds, without a branch. The result is undefined if it does not.
__device__ inline int load_shared_if(bool condition, SharedAddress from) {
  int value;
  asm volatile(
      "{\n\t.reg .pred p;\n\t"
      "setp.ne.s32 p, %1, 0;\n\t"
      "@p ld.shared.s32 %0, [%2];\n\t}"
      : "=r"(value)
      : "r"(static_cast<int>(condition)), "r"(from)
      : "memory");
  return value;
}
/// Stores if `condition` holds, without a branch.
__device__ inline void store_shared_if(bool condition, SharedAddress to, int value) {
  asm volatile(
      "{\n\t.reg .pred p;\n\t"
      "setp.ne.s32 p, %0, 0;\n\t"
      "@p st.shared.s32 [%1], %2;\n\t}" ::"r"(static_cast<int>(condition)),
      "r"(to), "r"(value)
      : "memory");
}
/// An atomic addition without a result.
__device__ inline void add_shared(SharedAddress to, int value) {
  asm volatile("red.shared.add.s32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
}

/// A barrier of a team: the first `num_threads` threads of the block, which are whole warps.
__device__ inline void sync_team(int num_threads) {
  asm volatile("bar.sync 1, %0;" ::"r"(num_threads) : "memory");
}
/// A barrier of any kThreads threads of the block, which are whole warps. kName is 2 to 15: 0 is
/// the block's, 1 the team's.
template <int kName, int kThreads>
__device__ inline void sync_named() {
  asm volatile("bar.sync %0, %1;" ::"n"(kName), "n"(kThreads) : "memory");
}
/// The same for warps that nobody makes wait: they only tell those in sync_named() that they came.
template <int kName, int kThreads>
__device__ inline void arrive_at_named() {
  asm volatile("bar.arrive %0, %1;" ::"n"(kName), "n"(kThreads) : "memory");
}
/// A variable in shared memory that one thread sets to 1, while others read it without a barrier.
__device__ inline void raise_flag(int* flag) { atomicOr(flag, 1); }
__device__ inline bool is_raised(int* flag) { return atomicOr(flag, 0) != 0; }
/// Reads a variable in shared memory that other threads change by atomic operations meanwhile.
__device__ inline int read_relaxed(const int* variable) {
  return *static_cast<const volatile int*>(variable);
}
/// sync_team(), and returns whether `predicate` holds for any thread of the team.
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

/// The two halves of a barrier of the cluster. It orders only what open_mailbox() did. Whole warps
/// must call them.
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

/// Counts the bytes that other blocks of the cluster store in this block's shared memory, so that
/// the block can wait for exactly these. A mailbox can be used once in a kernel. NOTE: a barrier of
/// the cluster would also do, but every thread would first wait for all its writes.
struct alignas(8) Mailbox {
  std::uint64_t state;
};

/// One thread calls it. After the next barrier of the cluster, others may send.
__device__ inline void open_mailbox([[maybe_unused]] Mailbox* box) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(box)) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

/// One thread says how many bytes will come. Some of them may have come already.
__device__ inline void expect_bytes([[maybe_unused]] Mailbox* box, [[maybe_unused]] int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(box)),
               "r"(bytes)
               : "memory");
#endif
}

/// Stores `value` in the shared memory of `block` (its number in the cluster), in the variable that
/// corresponds to `*shared` in this block, and counts its bytes in that block's `box`.
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

/// Waits until all expected bytes have come. This thread sees them after that.
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

/// Two words of 8 bytes, aligned to 16 bytes, in memory that other devices write and read. Each
/// word is read and written whole; the order of the two is not defined.
__device__ inline void store_words(void* to, unsigned long long a, unsigned long long b) {
  asm volatile("st.relaxed.sys.global.v2.b64 [%0], {%1, %2};" ::"l"(to), "l"(a), "l"(b) : "memory");
}
__device__ inline void load_words(const void* from, unsigned long long* a, unsigned long long* b) {
  asm volatile("ld.relaxed.sys.global.v2.b64 {%0, %1}, [%2];"
               : "=l"(*a), "=l"(*b)
               : "l"(from)
               : "memory");
}

/// A counter to which another device adds. After the load, this thread sees what that device wrote
/// before it added.
__device__ inline unsigned long long load_signal(const void* signal) {
  unsigned long long value;
  asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(signal) : "memory");
  return value;
}

/// The time, in nanoseconds, of a clock that all threads of the device share.
__device__ inline unsigned long long now_ns() {
  unsigned long long now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
  return now;
}

/// Waits until the previous kernel in the stream has ended, if this one was launched early
/// (LaunchShape::is_early).
__device__ inline void wait_for_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the next kernel in the stream start, if it is launched early. It starts when all blocks
/// have called this.
__device__ inline void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace lplb::device
#endif  // __CUDACC__
