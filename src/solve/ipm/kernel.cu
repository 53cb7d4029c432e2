// SPDX-License-Identifier: MIT
#include "solve/ipm/block.cuh"
#include "solve/ipm/kernel_args.h"
#include "solve/ipm/round.h"

// The kernel of the interior-point solver: core.h step by step, one instance in each block, all of
// it in shared memory, in double. A thread has a variable, the constraint of a rank, or an entry of
// the matrix. Sums are made in a fixed order, so equal input gives equal output, bit for bit.
// cuSolverDx factors and solves the dense system (cmake/mathdx_functions.py). NOTE: reduce() is a
// barrier: after it, all threads see what any thread wrote to shared memory before it.

// Compiled once for each of kIpmSizes: LPLB_IPM_ROWS rows, blocks of LPLB_IPM_THREADS threads.
extern "C" __device__ void lplb_potrf(double* matrix, int* info);
extern "C" __device__ void lplb_potrs(double* matrix, double* right);

namespace lplb::solvers {
namespace {

// As in core.h.
constexpr double kFraction = 0.999;
constexpr double kColdSlack = 0.05;
constexpr double kWarmSlack = 0.005;
constexpr double kKeep = 0.03;
constexpr double kPull = 0.1;
constexpr double kRidge = 1e-13;
constexpr double kLarge = 1e300;

template <int kRows, int kThreads>
class Solve {
 public:
  __device__ Solve(const IpmKernelArgs& args, double* shared)
      : a_(args),
        at_(kRows, kThreads, args.num_variables, args.num_experts),
        m_(shared),
        row_(reinterpret_cast<int*>(shared + at_.integers)),
        info_(row_ + at_.status),
        block_(shared + at_.scratch) {}

  __device__ void run() {
    if (!load()) return;
    const bool warm = a_.warm != 0 && kept() != nullptr && kept()[0] != 0;
    start(warm);
    IpmOutcome outcome{IpmOutcomeStatus::kLimit, 0, 0, 0};
    bool keeps = kept() != nullptr;
    for (;; ++outcome.iterations) {
      measure(outcome);
      const double gap = outcome.max_load - outcome.lower_bound;
      if (keeps && gap <= kKeep * outcome.max_load) {
        keep();
        keeps = false;
      }
      if (gap <= a_.tolerance * outcome.max_load) {
        outcome.status = IpmOutcomeStatus::kConverged;
        break;
      }
      if (outcome.iterations >= a_.max_iterations) break;
      if (!step()) {
        outcome.status = IpmOutcomeStatus::kSingular;
        break;
      }
    }
    finish(outcome);
  }

 private:
  __device__ double& at(int offset, int i) { return m_[offset + i]; }
  __device__ double* kept() const {
    if (a_.kept == nullptr) return nullptr;
    return a_.kept + std::size_t{blockIdx.x} * (1 + a_.num_variables + a_.num_rows);
  }
  __device__ int begin(int p) const { return row_[at_.begin + p]; }
  __device__ int end(int p) const { return row_[at_.end + p]; }
  __device__ bool active(int p) { return at(at_.want, row_[at_.owner + p]) > 0; }

  template <class Body>
  __device__ void for_variables(Body body) const {
#pragma unroll 1
    for (int p = threadIdx.x; p < a_.num_variables; p += kThreads) body(p);
  }
  template <class Body>
  __device__ void for_rows(Body body) const {
#pragma unroll 1
    for (int i = threadIdx.x; i < a_.num_rows; i += kThreads) body(i);
  }
  /// The sum of the array at `offset` over the variables of row i.
  __device__ double row_sum(int offset, int i) {
    double sum = 0;
#pragma unroll 1
    for (int j = a_.row_begin[i]; j < a_.row_begin[i + 1]; ++j)
      sum += at(offset, a_.row_variable[j]);
    return sum;
  }

  /// Copies tables and loads into shared memory, in units of the mean rank load. If there are no
  /// tokens, writes the answer and returns false.
  __device__ bool load() {
    const std::int64_t* const want = a_.want + std::size_t{blockIdx.x} * a_.num_experts;
    const std::int64_t* const fixed = a_.fixed + std::size_t{blockIdx.x} * a_.num_rows;
    double part[2] = {0, 0};
#pragma unroll 1
    for (int k = threadIdx.x; k < a_.num_experts; k += kThreads) {
      at(at_.want, k) = static_cast<double>(want[k]);
      part[0] += at(at_.want, k);
      if (want[k] > 0) part[1] += a_.expert_begin[k + 1] - a_.expert_begin[k];
    }
#pragma unroll 1
    for (int i = threadIdx.x; i < kRows; i += kThreads) {
      const bool real = i < a_.num_rows;
      at(at_.fixed, i) = real ? static_cast<double>(fixed[i]) : 0;
      at(at_.speed, i) = real ? a_.speed[i] : 0;
      part[0] += at(at_.fixed, i);
    }
    for_variables([&](int p) {
      row_[p] = a_.row[p];
      const int k = a_.owner[p];
      row_[at_.owner + p] = k;
      row_[at_.begin + p] = a_.expert_begin[k];
      row_[at_.end + p] = a_.expert_begin[k + 1];
    });
    block_.sum(part);
    num_products_ = part[1] + a_.num_rows;
    if (part[0] == 0) {
      for_variables([&](int p) { take()[p] = 0; });
      for_rows([&](int i) { price()[i] = 1; });
      if (threadIdx.x == 0) {
        a_.outcome[blockIdx.x] = {IpmOutcomeStatus::kConverged, 0, 0, 0};
      }
      return false;
    }
    unit_ = part[0] / a_.num_rows;
#pragma unroll 1
    for (int k = threadIdx.x; k < a_.num_experts; k += kThreads) at(at_.want, k) /= unit_;
    for_rows([&](int i) { at(at_.fixed, i) /= unit_; });
    __syncthreads();
    return true;
  }

  /// Starts at a point in the interior, as Ipm::start() does.
  __device__ void start(bool warm) {
    const double* const old = kept() + 1;
    for_variables([&](int p) {
      double sum = 0;
      if (warm) {
#pragma unroll 1
        for (int q = begin(p); q < end(p); ++q) sum += old[q];
      }
      const double even = 1.0 / (end(p) - begin(p));
      const double share = sum > 0 ? (1 - kPull) * (old[p] / sum) + kPull * even : even;
      at(at_.x, p) = share * at(at_.want, row_[at_.owner + p]);
    });
    __syncthreads();
    // T is above the largest load.
    double top[1] = {1};
    for_rows([&](int i) {
      at(at_.ds, i) = at(at_.fixed, i) + row_sum(at_.x, i);
      top[0] = fmax(top[0], at(at_.ds, i) / at(at_.speed, i));
    });
    block_.reduce(top, [](int, double a, double b) { return fmax(a, b); });
    level_ = top[0] * (1 + (warm ? kWarmSlack : kColdSlack));
    // Slacks, and prices that balance them.
    double part[2] = {0, 0};
    for_rows([&](int i) {
      at(at_.s, i) = level_ * at(at_.speed, i) - at(at_.ds, i);
      part[0] += at(at_.speed, i) / at(at_.s, i);
      if (warm) part[1] += at(at_.speed, i) * old[a_.num_variables + i];
    });
    block_.sum(part);
    double products = 0;
    for_rows([&](int i) {
      const double balanced = 1 / (part[0] * at(at_.s, i));
      at(at_.z, i) = part[1] > 0
                         ? (1 - kPull) * (old[a_.num_variables + i] / part[1]) + kPull * balanced
                         : balanced;
      products += at(at_.z, i) * at(at_.s, i);
    });
    const double mu = block_.sum(products) / a_.num_rows;
    // Reduced costs.
    for_variables([&](int p) {
      if (!active(p)) {
        at(at_.r, p) = 1;
        return;
      }
      double y = kLarge;
#pragma unroll 1
      for (int q = begin(p); q < end(p); ++q) y = fmin(y, at(at_.z, row_[q]) - mu / at(at_.x, q));
      at(at_.r, p) = at(at_.z, row_[p]) - y;
    });
  }

  /// Measures T of the current x, and the bound of the current prices.
  __device__ void measure(IpmOutcome& outcome) {
    double part[3] = {0, 0, 0};  // T, the weight of the prices, what the tokens cost
    for_rows([&](int i) {
      const double load = at(at_.fixed, i) + row_sum(at_.x, i);
      part[0] = fmax(part[0], load / at(at_.speed, i));
      part[1] += at(at_.speed, i) * at(at_.z, i);
      part[2] += at(at_.fixed, i) * at(at_.z, i);
    });
    for_variables([&](int p) {
      if (p != begin(p)) return;
      double least = kLarge;
#pragma unroll 1
      for (int q = p; q < end(p); ++q) least = fmin(least, at(at_.z, row_[q]));
      part[2] += at(at_.want, row_[at_.owner + p]) * least;
    });
    block_.reduce(part, [](int c, double a, double b) { return c == 0 ? fmax(a, b) : a + b; });
    outcome.max_load = part[0];
    outcome.lower_bound = part[2] / part[1];
  }

  /// Keeps the current point for a warm start.
  __device__ void keep() {
    for_variables([&](int p) { kept()[1 + p] = at(at_.x, p); });
    for_rows([&](int i) { kept()[1 + a_.num_variables + i] = at(at_.z, i); });
  }

  /// One predictor and one corrector. Returns false if the matrix can no longer be factored.
  __device__ bool step() {
    // The products x r and s z of the current point.
    double products = 0;
    for_variables([&](int p) {
      at(at_.d, p) = active(p) ? at(at_.x, p) / at(at_.r, p) : 0;
      products += at(at_.d, p) > 0 ? at(at_.x, p) * at(at_.r, p) : 0;
      at(at_.dr, p) = -at(at_.r, p);  // the residual that direction() starts from
    });
    for_rows([&](int i) { products += at(at_.s, i) * at(at_.z, i); });
    products = block_.sum(products);

    // The matrix.
    double trace = 0;
    for_variables([&](int p) {
      double weight = 0;
#pragma unroll 1
      for (int q = begin(p); q < end(p); ++q) weight += at(at_.d, q);
      const double part = weight > 0 ? at(at_.d, p) / weight : 0;
      at(at_.part, p) = part;
      trace += at(at_.d, p) * (1 - part);
    });
    trace = block_.sum(trace);
    assemble(fmax(trace, 1.0) / (double(a_.num_rows) * a_.num_rows));
    // Factor it, and solve for the predictor and for the speeds, by which T is eliminated.
    center_residuals();
    for_rows([&](int i) {
      at(at_.right, i) = -at(at_.s, i) + row_sum(at_.q, i);
      at(at_.right, kRows + i) = at(at_.speed, i);
    });
    __syncthreads();
    lplb_potrf(m_ + at_.matrix, info_);
    __syncthreads();
    if (*info_ != 0) return false;
    lplb_potrs(m_ + at_.matrix, m_ + at_.right);
    __syncthreads();
    double part[2] = {0, 0};
    for_rows([&](int i) {
      at(at_.base, i) = at(at_.right, kRows + i);
      part[0] += at(at_.speed, i) * at(at_.base, i);
      part[1] += at(at_.speed, i) * at(at_.right, i);
    });
    block_.sum(part);
    // The predictor: how far does a step towards mu = 0 get?
    const double border = part[0];
    double steps[2];
    direction(part[1] / border, steps);

    double after = 0;
    for_variables([&](int p) {
      if (!active(p)) return;
      after +=
          (at(at_.x, p) + steps[0] * at(at_.dx, p)) * (at(at_.r, p) + steps[1] * at(at_.dr, p));
    });
    for_rows([&](int i) {
      after +=
          (at(at_.s, i) + steps[0] * at(at_.ds, i)) * (at(at_.z, i) + steps[1] * at(at_.dz, i));
    });
    // The corrector aims at the mu that Mehrotra's rule gives. It uses the same factors.
    const double ratio = block_.sum(after) / products;
    const double target = ratio * ratio * ratio * (products / num_products_);

    for_variables([&](int p) {
      at(at_.dr, p) =
          active(p) ? (target - at(at_.dx, p) * at(at_.dr, p)) / at(at_.x, p) - at(at_.r, p) : 0;
    });
    __syncthreads();
    center_residuals();
    double sum = 0;
    for_rows([&](int i) {
      at(at_.right, i) = (target - at(at_.ds, i) * at(at_.dz, i)) / at(at_.z, i) - at(at_.s, i) +
                         row_sum(at_.q, i);
    });
    __syncthreads();
    lplb_potrs(m_ + at_.matrix, m_ + at_.right);
    __syncthreads();
    for_rows([&](int i) { sum += at(at_.speed, i) * at(at_.right, i); });
    const double dlevel = block_.sum(sum) / border;
    direction(dlevel, steps);
    // Step, not quite to the boundary.
    steps[0] = fmin(1.0, kFraction * steps[0]);
    steps[1] = fmin(1.0, kFraction * steps[1]);
    for_variables([&](int p) {
      at(at_.x, p) += steps[0] * at(at_.dx, p);
      at(at_.r, p) += steps[1] * at(at_.dr, p);
    });
    for_rows([&](int i) {
      at(at_.s, i) += steps[0] * at(at_.ds, i);
      at(at_.z, i) += steps[1] * at(at_.dz, i);
    });
    level_ += steps[0] * dlevel;
    __syncthreads();
    return true;
  }

  /// Sets the lower half of the matrix, by columns. Rows from num_rows on are those of the
  /// identity.
  __device__ void assemble(double fill) {
    if (a_.num_rows < kRows) {
#pragma unroll 1
      for (int i = threadIdx.x; i < kRows * kRows; i += kThreads) {
        const int row = i % kRows;
        if (row >= a_.num_rows) m_[at_.matrix + i] = row == i / kRows ? 1 : 0;
      }
#pragma unroll 1
      for (int i = a_.num_rows + threadIdx.x; i < kRows; i += kThreads) {
        at(at_.right, i) = 0;
        at(at_.right, kRows + i) = 0;
      }
    }
#pragma unroll 1
    for (int e = threadIdx.x; e < a_.num_entries; e += kThreads) {
      const int i = a_.entry[e] >> 16;
      const int j = a_.entry[e] & 0xFFFF;
      double value = fill * at(at_.speed, i) * at(at_.speed, j);
#pragma unroll 1
      for (int n = a_.entry_begin[e]; n < a_.entry_begin[e + 1]; ++n) {
        const int p = a_.pair[n] >> 16;
        const int q = a_.pair[n] & 0xFFFF;
        value += p == q ? at(at_.d, p) * (1 - at(at_.part, p)) : -at(at_.d, p) * at(at_.part, q);
      }
      if (i == j) value = (value + at(at_.s, i) / at(at_.z, i)) * (1 + kRidge);
      m_[at_.matrix + j * kRows + i] = value;
    }
  }

  /// q = d (residual - the mean of its expert). Ends in a barrier.
  __device__ void center_residuals() {
    for_variables([&](int p) {
      double mean = 0;
#pragma unroll 1
      for (int q = begin(p); q < end(p); ++q) mean += at(at_.part, q) * at(at_.dr, q);
      at(at_.mean, p) = mean;
      at(at_.q, p) = at(at_.d, p) * (at(at_.dr, p) - mean);
    });
    __syncthreads();
  }

  /// Makes dx, dr, ds and dz from the solved right side, and the steps to the boundary, at most 1.
  __device__ void direction(double dlevel, double (&steps)[2]) {
    steps[0] = steps[1] = 1;
    const auto shorten = [](double& step, double value, double change) {
      if (change < 0) step = fmin(step, -value / change);
    };
    for_rows([&](int i) { at(at_.dz, i) = at(at_.right, i) - dlevel * at(at_.base, i); });
    __syncthreads();
    for_variables([&](int p) {
      double mean = 0;
#pragma unroll 1
      for (int q = begin(p); q < end(p); ++q) mean += at(at_.part, q) * at(at_.dz, row_[q]);
      const double centred = at(at_.dz, row_[p]) - mean;
      at(at_.dx, p) = at(at_.q, p) - at(at_.d, p) * centred;
      at(at_.dr, p) = at(at_.mean, p) + centred;
      if (!active(p)) {
        at(at_.dx, p) = at(at_.dr, p) = 0;
        return;
      }
      shorten(steps[0], at(at_.x, p), at(at_.dx, p));
      shorten(steps[1], at(at_.r, p), at(at_.dr, p));
    });
    __syncthreads();
    for_rows([&](int i) {
      at(at_.ds, i) = at(at_.speed, i) * dlevel - row_sum(at_.dx, i);
      shorten(steps[0], at(at_.s, i), at(at_.ds, i));
      shorten(steps[1], at(at_.z, i), at(at_.dz, i));
    });
    block_.min(steps);
  }

  __device__ std::int64_t* take() const {
    return a_.take + std::size_t{blockIdx.x} * a_.num_variables;
  }
  __device__ double* price() const { return a_.price + std::size_t{blockIdx.x} * a_.num_rows; }

  /// Rounds to whole tokens, colour by colour, and writes what the host needs for the proof.
  __device__ void finish(IpmOutcome& outcome) {
    for_rows([&](int i) {
      price()[i] = at(at_.z, i);
      // The room of the rank up to the least whole level that the bound allows.
      const double capacity = floor(at(at_.speed, i) * outcome.lower_bound * unit_ + 0.999);
      at(at_.ds, i) = capacity - (at(at_.fixed, i) + row_sum(at_.x, i)) * unit_;
    });
    for_variables([&](int p) { at(at_.dx, p) = at(at_.x, p) * unit_; });
    const std::int64_t* const want = a_.want + std::size_t{blockIdx.x} * a_.num_experts;
#pragma unroll 1
    for (int c = 0; c < a_.num_colours; ++c) {
      __syncthreads();
#pragma unroll 1
      for (int k = a_.colour_begin[c] + threadIdx.x; k < a_.colour_begin[c + 1]; k += kThreads) {
        const int first = a_.expert_begin[k];
        round_expert<double>(want[k], a_.expert_begin[k + 1] - first, m_ + at_.dx + first,
                             row_ + first, m_ + at_.ds, take() + first);
      }
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
  int* const row_;
  int* const info_;
  Block<kThreads> block_;
  double unit_ = 1;
  double level_ = 1;
  double num_products_ = 1;
};

}  // namespace

inline __device__ void run_block(const IpmKernelArgs& args) {
  extern __shared__ __align__(16) double shared[];
  Solve<LPLB_IPM_ROWS, LPLB_IPM_THREADS>(args, shared).run();
}

extern "C" __global__ void __launch_bounds__(LPLB_IPM_THREADS)
    lplb_ipm(const __grid_constant__ IpmKernelArgs args) {
  run_block(args);
}

}  // namespace lplb::solvers
