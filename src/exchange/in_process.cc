// SPDX-License-Identifier: MIT
#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <string>

#include "core/format.h"
#include "exchange/checks.h"

namespace lplb {

using Clock = std::chrono::steady_clock;

/// Each member numbers batches by its calls, from 1. Batches are decided in order: a rank posts a
/// batch only after it has collected the previous one. So when a rank comes to batch n, batch n - 1
/// is complete or has failed. At most two batches are under way: some ranks post n while others
/// have yet to collect n - 1, whose rows are in the other slot.
struct InProcessGroup::Shared {
  Shared(Index ranks, std::chrono::microseconds wait) : num_ranks(ranks), deadline(wait) {
    handed_out.assign(static_cast<std::size_t>(ranks), 0);
  }

  struct Slot {
    std::int64_t batch = 0;
    Index arrived = 0;  // ranks that have posted it
    // The layout of the first of them, which the others compare with theirs.
    Index first_rank = 0;
    std::size_t first_size = 0;
    std::size_t first_replicated = 0;
    std::uint64_t first_fingerprint = 0;
    std::vector<Load> rows;  // [num_ranks, size]
    // How many ranks have yet to copy the complete batch. Until then the rows must not change.
    Index readers = 0;

    void make_room(std::size_t counts) { rows.resize(std::max(rows.size(), counts)); }
  };
  Slot& slot(std::int64_t batch) { return slots[batch % 2]; }

  const Index num_ranks;
  const std::chrono::microseconds deadline;

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<char> handed_out;  // [num_ranks]
  std::string ended;             // why the group has ended; empty until it has
  std::int64_t completed = 0;    // the last batch that all ranks posted
  std::int64_t failed = 0;       // the last batch that a rank gave up
  Slot slots[2];

  /// The caller holds the mutex.
  void end(std::string why) {
    if (ended.empty()) ended = std::move(why);
    changed.notify_all();
  }
  void fail(std::int64_t batch) {
    failed = std::max(failed, batch);
    changed.notify_all();
  }
};

class InProcessGroup::Member : public Exchange {
 public:
  Member(std::shared_ptr<Shared> shared, Index rank) : shared_(std::move(shared)), rank_(rank) {}
  ~Member() override {
    const std::lock_guard lock(shared_->mutex);
    shared_->end(formatted("the group is closed: rank {} has left it", rank_));
  }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  Index num_ranks() const override { return shared_->num_ranks; }
  Index rank() const override { return rank_; }

  void reserve(std::size_t max_counts) override {
    const std::lock_guard lock(shared_->mutex);
    for (Shared::Slot& slot : shared_->slots) {
      // NOTE: rows that other ranks are reading must not move.
      if (slot.readers == 0) slot.make_room(max_counts * static_cast<std::size_t>(num_ranks()));
    }
  }

  void post(const PackedLayout& layout, std::span<const Load> mine) override {
    exchange::check_post(*this, layout, mine);
    check_argument(posted_ == 0, "mine", "is posted before the last batch is collected");
    Shared& s = *shared_;
    const auto give_up = Clock::now() + s.deadline;
    std::unique_lock lock(s.mutex);
    ++batch_;
    posted_ = layout.size();
    Shared::Slot& slot = s.slot(batch_);
    // Otherwise collect() finds out what has become of the batch.
    if (enter(give_up, lock) && is_alike(slot, layout)) {
      slot.make_room(layout.size() * static_cast<std::size_t>(s.num_ranks));
      std::copy(mine.begin(), mine.end(), slot.rows.begin() + rank_ * layout.size());
      if (++slot.arrived == s.num_ranks) {
        s.completed = batch_;
        slot.readers = s.num_ranks;
        s.changed.notify_all();
      }
    }
  }

  ExchangeStatus collect(std::span<Load> all) override {
    exchange::check_collect(*this, posted_, all);
    Shared& s = *shared_;
    const auto give_up = Clock::now() + s.deadline;
    std::unique_lock lock(s.mutex);
    posted_ = 0;
    if (!await(give_up, lock)) return ExchangeStatus::kTimedOut;

    // The copy needs no lock: nobody changes the rows while readers > 0.
    Shared::Slot& slot = s.slot(batch_);
    lock.unlock();
    std::copy_n(slot.rows.begin(), all.size(), all.begin());
    lock.lock();
    if (--slot.readers == 0) s.changed.notify_all();
    return ExchangeStatus::kComplete;
  }

 private:
  /// Joins the batch; the first rank opens it. Returns false if the batch or the group is over, or
  /// if some rank did not read the previous contents of the slot before the deadline.
  bool enter(Clock::time_point give_up, std::unique_lock<std::mutex>& lock) {
    Shared& s = *shared_;
    Shared::Slot& slot = s.slot(batch_);
    const auto may_go_on = [&] {
      return slot.readers == 0 || s.failed >= batch_ || !s.ended.empty();
    };
    if (!s.changed.wait_until(lock, give_up, may_go_on)) s.fail(batch_);
    if (s.failed >= batch_ || !s.ended.empty()) return false;
    if (slot.batch < batch_) {
      slot.batch = batch_;
      slot.arrived = 0;
    }
    return true;
  }

  /// Whether this rank exchanges the same counts as the first one. If not, the group ends for all.
  bool is_alike(Shared::Slot& slot, const PackedLayout& layout) {
    Shared& s = *shared_;
    if (slot.arrived == 0) {
      slot.first_rank = rank_;
      slot.first_size = layout.size();
      slot.first_replicated = layout.replicated.size();
      slot.first_fingerprint = layout.fingerprint;
    } else if (layout.fingerprint != slot.first_fingerprint || layout.size() != slot.first_size) {
      const auto side = [](Index rank, std::size_t size, std::size_t replicated) {
        return formatted("rank {} exchanges {} counts, {} of replicated experts", rank, size,
                         replicated);
      };
      s.end(formatted("the ranks' placements differ: {}; {}{}",
                      side(rank_, layout.size(), layout.replicated.size()),
                      side(slot.first_rank, slot.first_size, slot.first_replicated),
                      layout.size() == slot.first_size
                          ? ", but not the same ones or not in the same places"
                          : ""));
      return false;
    }
    return true;
  }

  /// Waits for the outcome of the batch. Returns whether it is complete. Throws ExchangeError if
  /// the group has ended.
  bool await(Clock::time_point give_up, std::unique_lock<std::mutex>& lock) {
    Shared& s = *shared_;
    const auto decided = [&] {
      return s.completed >= batch_ || s.failed >= batch_ || !s.ended.empty();
    };
    if (!s.changed.wait_until(lock, give_up, decided)) s.fail(batch_);
    if (s.completed >= batch_) return true;  // no later batch can be complete without this rank
    if (!s.ended.empty()) throw ExchangeError(s.ended);
    return false;
  }

  const std::shared_ptr<Shared> shared_;
  const Index rank_;
  std::int64_t batch_ = 0;
  std::size_t posted_ = 0;  // counts that this rank posted and has yet to collect; 0: none
};

InProcessGroup::InProcessGroup(Index num_ranks, std::chrono::microseconds deadline) {
  check_argument(num_ranks >= 1 && num_ranks <= kMaxRanks, "num_ranks",
                 "{} is not between 1 and {}", num_ranks, kMaxRanks);
  check_argument(deadline.count() > 0, "deadline", "{} us is not > 0", deadline.count());
  // NOTE: a deadline near the clock's end would overflow when it is added to now.
  const std::chrono::microseconds longest = std::chrono::hours(24 * 365);
  shared_ = std::make_shared<Shared>(num_ranks, std::min(deadline, longest));
}

InProcessGroup::~InProcessGroup() = default;
InProcessGroup::InProcessGroup(InProcessGroup&&) noexcept = default;
InProcessGroup& InProcessGroup::operator=(InProcessGroup&&) noexcept = default;

std::shared_ptr<Exchange> InProcessGroup::member(Index rank) {
  check_argument(rank >= 0 && rank < shared_->num_ranks, "rank", "{} is not between 0 and {}", rank,
                 shared_->num_ranks - 1);
  const std::lock_guard lock(shared_->mutex);
  check_argument(shared_->handed_out[rank] == 0, "rank", "{} has its member already", rank);
  auto member = std::make_shared<Member>(shared_, rank);
  shared_->handed_out[rank] = 1;
  return member;
}

void InProcessGroup::close() {
  const std::lock_guard lock(shared_->mutex);
  shared_->end("the group is closed");
}

}  // namespace lplb
