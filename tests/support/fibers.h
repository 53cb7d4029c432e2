// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <utility>

#ifdef __SANITIZE_THREAD__
#define LPLB_FIBERS 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LPLB_FIBERS 0
#endif
#endif
#ifndef LPLB_FIBERS
#define LPLB_FIBERS 1
#endif

#if LPLB_FIBERS
#include <cstdint>
#include <vector>
#else
#include <barrier>
#include <thread>
#include <utility>
#include <vector>
#endif

// Many threads of control that wait for each other at barriers. Usually they are fibers: they take
// turns on one thread of the system, and a turn ends at a barrier. A switch takes nanoseconds where
// a wait of system threads takes microseconds. Under ThreadSanitizer they are system threads, so
// that it sees what no barrier orders.
namespace lplb::emulated {

#if LPLB_FIBERS

struct Fiber;

/// Calls body(i) for i = 0 to count - 1, each on a fiber of its own, and returns when all have
/// returned. Fibers start in order of i, and continue in the order in which they may. Throws
/// std::logic_error if all that are left wait at barriers. `body` must not throw.
void run_together(int count, const std::function<void(int)>& body);

/// Lets the others run. To be called in a loop that waits for another fiber or thread.
void yield();

/// Takes the place of std::barrier.
class Barrier {
 public:
  using arrival_token = std::uint64_t;

  explicit Barrier(int count) : count_(count) {}
  arrival_token arrive();
  void wait(arrival_token token);
  void arrive_and_wait() { wait(arrive()); }

 private:
  int count_;
  int arrived_ = 0;
  std::uint64_t phase_ = 0;
  std::vector<Fiber*> waiting_;
};

#else

template <class Body>
void run_together(int count, const Body& body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back([&body, i] { body(i); });
  for (std::thread& thread : threads) thread.join();
}

inline void yield() { std::this_thread::yield(); }

using Barrier = std::barrier<>;

#endif

/// What each fiber or system thread has of its own. run_together() keeps it over the switches.
struct Context;
inline thread_local Context* context = nullptr;

}  // namespace lplb::emulated
