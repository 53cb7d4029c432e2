// SPDX-License-Identifier: MIT
#pragma once

#include "solve/ipm/constants.h"
#include "solve/ipm/inverse.cuh"
#include "solve/ipm/kernel_args.h"
#include "solve/ipm/reduction.cuh"
#include "solve/ipm/round.h"

// The kernel of the interior-point solver: core.h step by step, one instance in each block, all of
// it in shared memory and registers, in double. Sums are made in a fixed order, so equal input
// gives equal output, bit for bit.
//
// As one of kLanes threads of a row (the constraint of a rank), a thread has the row's slack and
// price, and entries of the matrix. It also works on variables and on experts, whose numbers are in
// shared memory. Rows, variables and experts meet at barriers. NOTE: reduce() is a barrier too:
// after it, all threads see what any thread wrote to shared memory before it.
namespace lplb::solvers {

template <int kRows, int kLanes>
class IpmBlock {
 public:
  using Matrix = BlockMatrix<kRows, kLanes>;
  static constexpr int kThreads = Matrix::kThreads;

  __device__ IpmBlock(const IpmKernelArgs& args, double* shared)
      : a_(args),
        at_(kRows, kLanes, args),
        m_(shared),
        table_(reinterpret_cast<int*>(shared + at_.integers)),
        block_(shared + at_.scratch),
        row_(Matrix::row()),
        is_row_(row_ < args.num_rows),
        leads_(is_row_ && Matrix::lane() == 0) {}

  __device__ void run() {
    if (!load()) return;
    const bool warm = a_.warm != 0 && kept() != nullptr && kept()[0] != 0;
    start(warm);
    IpmOutcome outcome{IpmOutcomeStatus::kLimit, 0, 0, 0};
    bool keeps = kept() != nullptr;
    LPLB_ROLLED
    for (;; ++outcome.iterations) {
      const Sums sums = measure();
      outcome.max_load = sums.max_load;
      outcome.lower_bound = sums.value / sums.weight;
      const double gap = outcome.max_load - outcome.lower_bound;
      if (keeps && gap <= IpmConstants::kKeep * outcome.max_load) {
        keep();
        keeps = false;
      }
      if (gap <= a_.tolerance * outcome.max_load) {
        outcome.status = IpmOutcomeStatus::kConverged;
        break;
      }
      if (outcome.iterations >= a_.max_iterations) break;
      if (!step(sums)) {
        outcome.status = IpmOutcomeStatus::kSingular;
        break;
      }
    }
    finish(outcome);
  }

 private:
  static constexpr double kLarge = 1e300;

  /// What all threads know of the current point.
  struct Sums {
    double max_load;  // T
    double weight;    // of the prices
    double value;     // what the tokens cost at these prices
    double trace;     // of the matrix, without its diagonal part
    double products;  // x r + s z
  };
  struct Steps {
    double primal, dual;  // how far it is to the boundary, at most 1
    double first;         // the sum of dx r + ds z
    double second;        // the sum of dx dr + ds dz
  };

  // Shared memory, and this thread's parts.

  __device__ double& at(int offset, int i) const { return m_[offset + i]; }
  __device__ int begin(int k) const { return table_[at_.expert_begin + k]; }
  __device__ int row_of(int p) const { return table_[at_.row + p]; }
  __device__ double* kept() const {
    if (a_.kept == nullptr) return nullptr;
    return a_.kept + std::size_t{blockIdx.x} * (1 + a_.num_variables + a_.num_rows);
  }

  /// Calls body(i) for this thread's numbers below `count`.
  template <class Body>
  __device__ static void for_all(int count, Body body) {
    LPLB_ROLLED
    for (int i = threadIdx.x; i < count; i += kThreads) body(i);
  }
  /// Calls body(k, begin, end) for this thread's experts that have tokens.
  template <class Body>
  __device__ void for_experts(Body body) const {
    for_all(a_.num_experts, [&](int k) {
      if (at(at_.want, k) > 0) body(k, begin(k), begin(k + 1));
    });
  }
  /// Calls body(p) for this thread's variables that have tokens.
  template <class Body>
  __device__ void for_variables(Body body) const {
    for_all(a_.num_variables, [&](int p) {
      if (at(at_.x, p) > 0) body(p);
    });
  }
  /// The sum over the row's variables of the array at `offset`, on all threads of the row.
  __device__ double row_sum(int offset) const {
    double sum = 0;
    LPLB_ROLLED
    for (int j = row_begin_ + Matrix::lane(); j < row_end_; j += kLanes) {
      sum += at(offset, table_[at_.row_place + j] & kIpmPlaceMask);
    }
    return Matrix::add_lanes(sum);
  }

  // The start: kernel_start.cuh.

  /// Copies tables and loads into shared memory, in units of the mean rank load. If there are no
  /// tokens, writes the answer and returns false.
  __device__ bool load();
  /// Starts at a point in the interior, as Ipm::start() does.
  __device__ void start(bool warm);

  // An iteration.

  /// Measures T of the current x, and the bound of the current prices. Prepares the matrix, and the
  /// right side of the predictor. Needs x and z of all threads.
  __device__ Sums measure() {
    double sums[5] = {0, 0, 0, 0, 0};
    const double load = fixed_ + row_sum(at_.x);
    inverse_s_ = inverse_of(s_);
    inverse_z_ = inverse_of(z_);
    if (leads_) {
      sums[0] = load * inverse_speed_;
      sums[1] = speed_ * z_;
      sums[2] = fixed_ * z_;
      sums[4] = s_ * z_;
    }
    for_variables([&](int p) {
      const double x = at(at_.x, p);
      const double r = at(at_.r, p);
      const double inverse_r = inverse_of(r);
      at(at_.inverse_x, p) = inverse_of(x);
      at(at_.inverse_r, p) = inverse_r;
      at(at_.d, p) = x * inverse_r;
      sums[4] += x * r;
    });
    sync_block<kThreads>();
    for_experts([&](int k, int begin, int end) {
      double least = kLarge;
      double weight = 0;
      double residual = 0;
      for (int p = begin; p < end; ++p) {
        least = fmin(least, at(at_.z, row_of(p)));
        weight += at(at_.d, p);
        residual += at(at_.x, p);  // d r
      }
      sums[2] += at(at_.want, k) * least;
      const double inverse = inverse_of(weight);
      at(at_.inverse_weight, k) = inverse;
      at(at_.mean, k) = -residual * inverse;
    });
    sync_block<kThreads>();
    for_variables([&](int p) {
      const int k = table_[at_.owner + p];
      const double d = at(at_.d, p);
      const double part = d * at(at_.inverse_weight, k);
      at(at_.part, p) = part;
      at(at_.q, p) = -at(at_.x, p) - d * at(at_.mean, k);
      sums[3] += d * (1 - part);
    });
    block_.reduce(sums, [](int c, double a, double b) { return c == 0 ? fmax(a, b) : a + b; });
    return {sums[0], sums[1], sums[2], sums[3], sums[4]};
  }

  /// One predictor and one corrector. Returns false if the matrix can no longer be inverted.
  __device__ bool step(const Sums& sums) {
    assemble(fmax(sums.trace, 1.0) / (double(a_.num_rows) * a_.num_rows));
    // The solutions for the speeds, by which T is eliminated, and for the predictor.
    put_right(-s_ + row_sum(at_.q));
    if (!matrix_.invert(a_.num_rows, m_ + at_.pivot_rows)) return false;
    double solved[2];
    matrix_.multiply({m_ + at_.speed, m_ + at_.right}, solved);
    base_ = solved[0];
    double part[2] = {leads_ ? speed_ * solved[0] : 0, leads_ ? speed_ * solved[1] : 0};
    block_.sum(part);
    const double inverse_border = inverse_of(part[0]);
    // The predictor: how far does a step towards mu = 0 get?
    Steps steps = direction(solved[1], part[1] * inverse_border);
    // The corrector aims at the mu that Mehrotra's rule gives. The sum of x dr + r dx and of s dz +
    // z ds is that of -x r and -s z.
    const double a = steps.primal;
    const double b = steps.dual;
    const double after = (1 - b) * sums.products + (a - b) * steps.first + a * b * steps.second;
    const double ratio = after / sums.products;
    const double target = ratio * ratio * ratio * (sums.products / num_products_);
    correct_residuals(target);
    sync_block<kThreads>();
    put_right((target - ds_ * dz_) * inverse_z_ - s_ + row_sum(at_.q));
    sync_block<kThreads>();
    double corrected[1];
    matrix_.multiply({m_ + at_.right}, corrected);
    const double dlevel = block_.sum(leads_ ? speed_ * corrected[0] : 0) * inverse_border;
    steps = direction(corrected[0], dlevel);
    // Step, not quite to the boundary.
    advance(fmin(1.0, IpmConstants::kFraction * steps.primal),
            fmin(1.0, IpmConstants::kFraction * steps.dual));
    return true;
  }

  __device__ void put_right(double value) {
    if (Matrix::lane() == 0) at(at_.right, row_) = is_row_ ? value : 0;
  }

  /// Makes the matrix from d and part. The thread's entries are first summed in shared memory,
  /// where the column of a pair may be an index.
  __device__ void assemble(double fill) {
    double* const mine = m_ + at_.entries + threadIdx.x;
#pragma unroll
    for (int j = 0; j < Matrix::kEntries; ++j) mine[j * kThreads] = 0;
    LPLB_ROLLED
    for (int j = row_begin_; j < row_end_; ++j) {
      const int place = table_[at_.row_place + j];
      const int p = place & kIpmPlaceMask;
      const int first = place >> kIpmPlaceBits & kIpmPlaceMask;
      const double d = at(at_.d, p);
      LPLB_ROLLED
      for (int q = first; q <= first + (place >> 2 * kIpmPlaceBits); ++q) {
        const int entry = Matrix::entry_of(row_of(q));
        if (entry >= 0) mine[entry * kThreads] += d * ((p == q ? 1 : 0) - at(at_.part, q));
      }
    }
#pragma unroll
    for (int j = 0; j < Matrix::kEntries; ++j) {
      const int column = Matrix::column(j);
      double value = mine[j * kThreads] + fill * speed_ * at(at_.speed, column);
      if (column == row_) value = (value + s_ * inverse_z_) * (1 + IpmConstants::kRidge);
      matrix_.entry(j) = is_row_ && column < a_.num_rows ? value : 0;
    }
  }

  /// Makes q and the mean residual of each expert for the corrector; measure() does so for the
  /// predictor.
  __device__ void correct_residuals(double target) const {
    for_variables([&](int p) {
      at(at_.q, p) = (target - at(at_.dx, p) * at(at_.dr, p)) * at(at_.inverse_x, p) - at(at_.r, p);
    });
    sync_block<kThreads>();
    find_means(at_.q, at_.mean);
    sync_block<kThreads>();
    for_variables([&](int p) {
      at(at_.q, p) = at(at_.d, p) * (at(at_.q, p) - at(at_.mean, table_[at_.owner + p]));
    });
  }

  /// Sets `to` of each expert to the mean of the array at `from` over its variables.
  __device__ void find_means(int from, int to) const {
    for_experts([&](int k, int begin, int end) {
      double mean = 0;
      for (int p = begin; p < end; ++p) mean += at(at_.part, p) * at(from, p);
      at(to, k) = mean;
    });
  }

  /// Makes dx, dr, ds and dz from the row's solution, q and the mean residuals. Measures the steps.
  __device__ Steps direction(double solved, double dlevel) {
    dz_ = solved - dlevel * base_;
    if (Matrix::lane() == 0) at(at_.dz, row_) = dz_;
    sync_block<kThreads>();
    for_all(a_.num_variables,
            [&](int p) { at(at_.dx, p) = at(at_.x, p) > 0 ? at(at_.dz, row_of(p)) : 0; });
    sync_block<kThreads>();
    find_means(at_.dx, at_.dz_mean);
    sync_block<kThreads>();
    double most[2] = {1, 1};  // the inverse of the steps
    double sums[2] = {0, 0};
    for_variables([&](int p) {
      const int k = table_[at_.owner + p];
      const double centred = at(at_.dx, p) - at(at_.dz_mean, k);
      const double dx = at(at_.q, p) - at(at_.d, p) * centred;
      const double dr = at(at_.mean, k) + centred;
      at(at_.dx, p) = dx;
      at(at_.dr, p) = dr;
      most[0] = fmax(most[0], -dx * at(at_.inverse_x, p));
      most[1] = fmax(most[1], -dr * at(at_.inverse_r, p));
      sums[0] += dx * at(at_.r, p);
      sums[1] += dx * dr;
    });
    sync_block<kThreads>();
    ds_ = speed_ * dlevel - row_sum(at_.dx);
    if (leads_) {
      most[0] = fmax(most[0], -ds_ * inverse_s_);
      most[1] = fmax(most[1], -dz_ * inverse_z_);
      sums[0] += ds_ * z_;
      sums[1] += ds_ * dz_;
    }
    double all[4] = {most[0], most[1], sums[0], sums[1]};
    block_.reduce(all, [](int c, double a, double b) { return c < 2 ? fmax(a, b) : a + b; });
    return {inverse_of(all[0]), inverse_of(all[1]), all[2], all[3]};
  }

  /// Ends in a barrier.
  __device__ void advance(double primal, double dual) {
    for_variables([&](int p) {
      at(at_.x, p) += primal * at(at_.dx, p);
      at(at_.r, p) += dual * at(at_.dr, p);
    });
    s_ += primal * ds_;
    z_ += dual * dz_;
    if (Matrix::lane() == 0) at(at_.z, row_) = z_;
    sync_block<kThreads>();
  }

  // The end.

  /// Keeps the current point for a warm start.
  __device__ void keep() const {
    for_all(a_.num_variables, [&](int p) { kept()[1 + p] = at(at_.x, p); });
    if (leads_) kept()[1 + a_.num_variables + row_] = z_;
  }

  __device__ std::int64_t* take() const {
    return a_.take + std::size_t{blockIdx.x} * a_.num_variables;
  }
  __device__ double* price() const { return a_.price + std::size_t{blockIdx.x} * a_.num_rows; }

  __device__ void write_nothing() const {
    for_all(a_.num_variables, [&](int p) { take()[p] = 0; });
    if (leads_) price()[row_] = 1;
    if (threadIdx.x == 0) a_.outcome[blockIdx.x] = {IpmOutcomeStatus::kConverged, 0, 0, 0};
  }

  /// Rounds to whole tokens, colour by colour, and writes what the host needs for the proof.
  __device__ void finish(IpmOutcome& outcome) {
    const double load = fixed_ + row_sum(at_.x);
    if (leads_) {
      price()[row_] = z_;
      // The room of the rank up to the least whole level that the bound allows.
      const double capacity = floor(speed_ * outcome.lower_bound * unit_ + 0.999);
      at(at_.dz, row_) = capacity - load * unit_;
    }
    for_all(a_.num_variables, [&](int p) { at(at_.dx, p) = at(at_.x, p) * unit_; });
    // NOTE: the tokens of the next colour's expert are read early, because they come from far away.
    const std::int64_t* const want = a_.want + std::size_t{blockIdx.x} * a_.num_experts;
    const auto expert_of = [&](int c) {
      const int k = table_[at_.colour_begin + c] + static_cast<int>(threadIdx.x);
      return c < a_.num_colours && k < table_[at_.colour_begin + c + 1] ? k : -1;
    };
    int k = expert_of(0);
    std::int64_t tokens = k < 0 ? 0 : want[k];
    LPLB_ROLLED
    for (int c = 0; c < a_.num_colours; ++c) {
      sync_block<kThreads>();
      const int now = k;
      const std::int64_t tokens_now = tokens;
      k = expert_of(c + 1);
      tokens = k < 0 ? 0 : want[k];
      if (now < 0) continue;
      const int first = begin(now);
      round_expert<double>(tokens_now, begin(now + 1) - first, m_ + at_.dx + first,
                           table_ + at_.row + first, m_ + at_.dz, take() + first);
    }
    if (threadIdx.x == 0) {
      if (kept() != nullptr) kept()[0] = outcome.status == IpmOutcomeStatus::kConverged;
      outcome.max_load *= unit_;
      outcome.lower_bound *= unit_;
      a_.outcome[blockIdx.x] = outcome;
    }
  }

  const IpmKernelArgs& a_;
  const IpmSharedLayout at_;
  double* const m_;
  int* const table_;
  BlockReduction<kThreads> block_;
  double unit_ = 1;
  double num_products_ = 1;

  // The row of this thread; all its threads have the same values.
  const int row_;
  const bool is_row_;  // the row exists
  const bool leads_;   // this thread adds the row to sums
  int row_begin_ = 0;
  int row_end_ = 0;
  double fixed_ = 0, speed_ = 0, inverse_speed_ = 0;
  double s_ = 1, z_ = 1, ds_ = 0, dz_ = 0;  // slack and price
  double inverse_s_ = 1, inverse_z_ = 1;
  double base_ = 0;  // the solution for the speeds
  Matrix matrix_;
};

}  // namespace lplb::solvers

#include "solve/ipm/kernel_start.cuh"
