// SPDX-License-Identifier: MIT
#include "support/fibers.h"

#if LPLB_FIBERS

#include <sys/mman.h>

#include <cstddef>
#include <deque>
#include <memory>
#include <new>
#include <stdexcept>

#if defined(__SANITIZE_ADDRESS__)
#define LPLB_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LPLB_ADDRESS_SANITIZER 1
#endif
#endif
#ifdef LPLB_ADDRESS_SANITIZER
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// Pushes what a function must keep, stores the stack's pointer in *from, and continues on stack
// `to`. Needs no system call, unlike swapcontext().
extern "C" void lplb_switch_stack(void** from, void* to);
asm(R"(
.text
.type lplb_switch_stack, @function
lplb_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size lplb_switch_stack, .-lplb_switch_stack
)");
#else
#include <ucontext.h>
#endif

namespace lplb::emulated {
namespace {

constexpr std::size_t kStackBytes = std::size_t{256} << 10;

/// Memory for a stack. Pages that are not used cost nothing.
class Stack {
 public:
  Stack()
      : memory_(mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0)) {
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
  }
  ~Stack() { munmap(memory_, kStackBytes); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  std::byte* bottom() const { return static_cast<std::byte*>(memory_); }
  std::byte* top() const { return bottom() + kStackBytes; }

 private:
  void* memory_;
};

}  // namespace

/// A place where execution can continue.
struct Fiber {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t place = {};
#endif
  std::unique_ptr<Stack> stack;  // null: the thread's own
  Context* own = nullptr;
  int index = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's, for locals; used again, as the stack is
  const void* bottom = nullptr;
  std::size_t size = 0;
};

namespace {

/// The fibers of one call of run_together().
struct Scheduler {
  const std::function<void(int)>* body = nullptr;
  Fiber caller;
  Fiber* running = &caller;
  std::deque<Fiber*> ready;
  int left = 0;
};
thread_local Scheduler* scheduler = nullptr;

/// Called first on each stack that was switched to.
void arrive_on_stack([[maybe_unused]] Fiber& fiber) {
#ifdef LPLB_ADDRESS_SANITIZER
  Fiber& caller = scheduler->caller;
  const bool learn = caller.bottom == nullptr && &fiber != &caller;
  const void* bottom = nullptr;
  std::size_t size = 0;
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &bottom, &size);
  if (learn) {  // the first switch comes from the caller
    caller.bottom = bottom;
    caller.size = size;
  }
#endif
}

/// Continues `to`, and returns when somebody continues the fiber that runs now. If it has ended,
/// nobody does.
void switch_to(Fiber& to) {
  Fiber& from = *scheduler->running;
  if (&from == &to) return;
  from.own = context;
  scheduler->running = &to;
  context = to.own;
#ifdef LPLB_ADDRESS_SANITIZER
  // NOTE: it frees the fake stack of a fiber that is said to end. The next one would map its pages
  // again, which takes longer than most kernels.
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
#endif
#if defined(__x86_64__)
  lplb_switch_stack(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.place, &to.place);
#endif
  arrive_on_stack(from);
}

/// Gives the turn to the next fiber that may run; if there is none, to the caller.
void give_turn() {
  std::deque<Fiber*>& ready = scheduler->ready;
  Fiber* next = &scheduler->caller;
  if (!ready.empty()) {
    next = ready.front();
    ready.pop_front();
  }
  switch_to(*next);
}

/// NOTE: it never returns, so AddressSanitizer must not mark its frame: stacks are used again.
__attribute__((no_sanitize("address"))) void run_fiber() {
  arrive_on_stack(*scheduler->running);
  (*scheduler->body)(scheduler->running->index);
  --scheduler->left;
  give_turn();
}

void prepare(Fiber& fiber, int index) {
  if (!fiber.stack) fiber.stack = std::make_unique<Stack>();
  fiber.index = index;
  fiber.own = nullptr;
  fiber.bottom = fiber.stack->bottom();
  fiber.size = kStackBytes;
#if defined(__x86_64__)
  // What lplb_switch_stack() pops: six registers and an address. A function begins with a stack
  // that is 8 bytes off a multiple of 16.
  auto* const top = reinterpret_cast<void**>(fiber.stack->top()) - 1;
  top[-1] = reinterpret_cast<void*>(&run_fiber);
  for (int i = 2; i <= 7; ++i) top[-i] = nullptr;
  fiber.stack_pointer = top - 7;
#else
  getcontext(&fiber.place);
  fiber.place.uc_stack.ss_sp = fiber.stack->bottom();
  fiber.place.uc_stack.ss_size = kStackBytes;
  makecontext(&fiber.place, run_fiber, 0);
#endif
}

}  // namespace

void run_together(int count, const std::function<void(int)>& body) {
  static thread_local std::vector<std::unique_ptr<Fiber>> kept;  // stacks are used again
  while (kept.size() < static_cast<std::size_t>(count)) kept.push_back(std::make_unique<Fiber>());
  Scheduler mine;
  mine.body = &body;
  mine.left = count;
  for (int i = 0; i < count; ++i) {
    Fiber& fiber = *kept[static_cast<std::size_t>(i)];
    prepare(fiber, i);
    mine.ready.push_back(&fiber);
  }
  scheduler = &mine;
  give_turn();
  scheduler = nullptr;
  if (mine.left > 0) {
    throw std::logic_error("fibers: all that are left wait at a barrier that others never reach");
  }
}

void yield() {
  scheduler->ready.push_back(scheduler->running);
  give_turn();
}

Barrier::arrival_token Barrier::arrive() {
  const arrival_token token = phase_;
  if (++arrived_ == count_) {
    arrived_ = 0;
    ++phase_;
    for (Fiber* fiber : waiting_) scheduler->ready.push_back(fiber);
    waiting_.clear();
  }
  return token;
}

void Barrier::wait(arrival_token token) {
  if (phase_ != token) return;
  waiting_.push_back(scheduler->running);
  give_turn();
}

}  // namespace lplb::emulated

#endif
