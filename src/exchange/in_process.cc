// SPDX-License-Identifier: MIT
#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <string>

#include "exchange/check_gather.h"

namespace lplb {

using Clock = std::chrono::steady_clock;

/// Batches are numbered by each member's calls, from 1. They are decided in order: nobody leaves a
/// batch before it is complete or has failed, so a rank's new call is for a batch <= current + 1,
/// and whatever is below `current` is decided.
struct InProcessGroup::Shared {
  Shared(Index ranks, std::chrono::microseconds wait) : num_ranks(ranks), deadline(wait) {
    handed_out.assign(static_cast<std::size_t>(ranks), 0);
  }

  const Index num_ranks;
  const std::chrono::microseconds deadline;

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<char> handed_out;  // [num_ranks]
  std::string ended;             // why the group is at its end; empty while it is not

  std::int64_t current = 0;    // the batch that gathers, or was the last to
  std::int64_t completed = 0;  // the last that all ranks came to
  std::int64_t failed = 0;     // the last that a rank gave up
  Index arrived = 0;           // ranks in `current`

  // What the first rank of `current` brought, to compare with.
  Index first_rank = 0;
  std::size_t first_size = 0;
  std::uint64_t first_fingerprint = 0;

  std::vector<Load> rows;  // [num_ranks, size]: of `current`
  Index readers = 0;       // ranks that have yet to copy a complete batch: rows stay as they are

  /// With the mutex held.
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
    shared_->end(fmt::format("the group is closed: rank {} has left it", rank_));
  }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  Index num_ranks() const override { return shared_->num_ranks; }
  Index rank() const override { return rank_; }

  void reserve(std::size_t max_counts) override {
    std::unique_lock lock(shared_->mutex);
    make_room(max_counts, lock);
  }

  ExchangeStatus all_gather(const PackedLayout& layout, std::span<const Load> mine,
                            std::span<Load> all) override {
    check_gather(*this, layout, mine, all);
    const auto give_up = Clock::now() + shared_->deadline;
    Shared& s = *shared_;
    std::unique_lock lock(s.mutex);
    if (!s.ended.empty()) throw ExchangeError(s.ended);
    const std::int64_t batch = ++batch_;
    make_room(layout.size(), lock);
    if (!enter(batch, give_up, lock)) return ExchangeStatus::kTimedOut;
    compare(layout);
    std::copy(mine.begin(), mine.end(), s.rows.begin() + rank_ * layout.size());
    if (++s.arrived == s.num_ranks) {
      s.completed = batch;
      s.readers = s.num_ranks;
      s.changed.notify_all();
    }
    if (!leave(batch, give_up, lock)) return ExchangeStatus::kTimedOut;

    // Outside the lock: readers > 0 keeps the rows as they are.
    lock.unlock();
    std::copy_n(s.rows.begin(), all.size(), all.begin());
    lock.lock();
    if (--s.readers == 0) s.changed.notify_all();
    return ExchangeStatus::kComplete;
  }

 private:
  /// Joins the batch, the first rank opens it. False where it is over, or some rank had not yet
  /// read the last complete one in time.
  bool enter(std::int64_t batch, Clock::time_point give_up, std::unique_lock<std::mutex>& lock) {
    Shared& s = *shared_;
    const auto may_go_on = [&] { return s.readers == 0 || s.failed >= batch || !s.ended.empty(); };
    if (!s.changed.wait_until(lock, give_up, may_go_on)) s.fail(batch);
    if (!s.ended.empty()) throw ExchangeError(s.ended);
    if (s.failed >= batch) return false;
    if (s.current < batch) {
      s.current = batch;
      s.arrived = 0;
    }
    return true;
  }

  /// Ranks that differ in what they exchange must not go on.
  void compare(const PackedLayout& layout) {
    Shared& s = *shared_;
    if (s.arrived == 0) {
      s.first_rank = rank_;
      s.first_size = layout.size();
      s.first_fingerprint = layout.fingerprint;
    } else if (layout.fingerprint != s.first_fingerprint || layout.size() != s.first_size) {
      const auto side = [&](Index rank, std::size_t size) {
        return fmt::format("rank {} exchanges {} counts, {} of replicated experts", rank, size,
                           size - static_cast<std::size_t>(s.num_ranks));
      };
      s.end(fmt::format("the ranks' placements differ: {}; {}{}", side(rank_, layout.size()),
                        side(s.first_rank, s.first_size),
                        layout.size() == s.first_size
                            ? ", but not the same ones or not in the same places"
                            : ""));
      throw ExchangeError(s.ended);
    }
  }

  /// Waits for the outcome of the batch.
  bool leave(std::int64_t batch, Clock::time_point give_up, std::unique_lock<std::mutex>& lock) {
    Shared& s = *shared_;
    const auto decided = [&] {
      return s.completed >= batch || s.failed >= batch || !s.ended.empty();
    };
    if (!s.changed.wait_until(lock, give_up, decided)) s.fail(batch);
    if (s.completed >= batch) return true;  // no later batch can be complete without this rank
    if (!s.ended.empty()) throw ExchangeError(s.ended);
    return false;
  }

  /// Rows of a batch that gathers stay; those that are read must not move.
  void make_room(std::size_t counts, std::unique_lock<std::mutex>& lock) {
    Shared& s = *shared_;
    const std::size_t needed = counts * static_cast<std::size_t>(s.num_ranks);
    if (s.rows.size() >= needed) return;
    s.changed.wait(lock, [&] { return s.readers == 0; });
    if (s.rows.size() < needed) s.rows.resize(needed);
  }

  const std::shared_ptr<Shared> shared_;
  const Index rank_;
  std::int64_t batch_ = 0;
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
