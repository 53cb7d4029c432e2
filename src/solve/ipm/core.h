// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "solve/ipm/cholesky.h"
#include "solve/ipm/constants.h"
#include "solve/ipm/model.h"

// A primal-dual interior-point method with predictor and corrector (Mehrotra, SIAM J. Optim. 2,
// 1992) for the program of IpmModel. Each expert's equation is eliminated together with its
// variables. What is left to factor is one dense matrix, with a row for each constraint: one for
// each rank, and the further ones. docs/math.md has the derivation and the names. Solvers run it in
// double; a test runs it in float too. docs/design/0005-interior-point.md has the cost of that.
namespace lplb::solvers {

/// What a solve leaves: its scratch memory, and its last point for a warm start.
template <class Real>
struct IpmState {
  std::vector<Real> x, r, dx, dr, d, g, q;  // [num variables]
  std::vector<Real> weight;                 // [K]
  std::vector<Real> kept_x, kept_z;         // where a warm start begins
  std::vector<Real> s, z, ds, dz;           // [num_rows]: slack and dual price
  std::vector<Real> residual, rhs, base;    // [num_rows]
  std::vector<Real> matrix;                 // [num_rows, num_rows], lower half
  std::vector<Real> column, mean;           // [num_rows]: of one variable; of its expert
  std::vector<Index> touched;               // the constraints of one expert
  Real level = 0;                           // T
  Index num_experts = 0;
  bool solved = false;

  void resize(const IpmModel& model) {
    const auto variables = static_cast<std::size_t>(model.num_variables());
    const auto rows = static_cast<std::size_t>(model.num_rows);
    solved = solved && kept_x.size() == variables && kept_z.size() == rows &&
             num_experts == model.num_experts();
    num_experts = model.num_experts();
    for (auto* v : {&x, &r, &dx, &dr, &d, &g, &q, &kept_x}) v->resize(variables);
    weight.resize(model.want.size());
    for (auto* v : {&s, &z, &ds, &dz, &residual, &rhs, &base, &column, &mean, &kept_z})
      v->resize(rows);
    matrix.resize(rows * rows);
    touched.reserve(rows);
  }
};

template <class Real>
class Ipm {
 public:
  Ipm(const IpmModel& model, IpmState<Real>& state) : m_(model), b_(state) {}

  IpmResult run(const IpmLimits& limits) {
    b_.resize(m_);
    start(limits.warm && b_.solved);
    IpmResult result;
    bool kept = false;
    for (;; ++result.iterations) {
      measure(result);
      if (!kept && result.max_load - result.lower_bound <= kKeep * result.max_load) {
        b_.kept_x = b_.x;
        b_.kept_z = b_.z;
        kept = true;
      }
      const bool met = result.max_load - result.lower_bound <= limits.tolerance * result.max_load;
      if (met && result.violation <= limits.tolerance) {
        result.status = IpmStatus::kConverged;
      } else if (proves_infeasible()) {
        result.status = IpmStatus::kInfeasible;
      } else if (result.iterations < limits.max_iterations && step()) {
        continue;
      }
      b_.solved = result.status == IpmStatus::kConverged;
      return result;
    }
  }

 private:
  static constexpr Real kFraction = Real(IpmConstants::kFraction);
  static constexpr Real kColdSlack = Real(IpmConstants::kColdSlack);
  static constexpr Real kWarmSlack = Real(IpmConstants::kWarmSlack);
  static constexpr Real kKeep = Real(IpmConstants::kKeep);
  static constexpr Real kPull = Real(IpmConstants::kPull);
  static constexpr Real kRidge =
      Real(sizeof(Real) == 4 ? IpmConstants::kFloatRidge : IpmConstants::kRidge);

  template <class Body>
  void for_active(Body body) const {
    for (Index k = 0; k < m_.num_experts(); ++k) {
      if (m_.want[k] > 0) body(k, m_.begin[k], m_.begin[k + 1]);
    }
  }
  template <class Body>
  void for_entries(Index p, Body body) const {
    if (m_.entry_begin.empty()) return;
    for (Index i = m_.entry_begin[p]; i < m_.entry_begin[p + 1]; ++i) {
      body(m_.entry_row[i], static_cast<Real>(m_.coefficient[i]));
    }
  }
  Real speed(Index i) const { return i < m_.num_ranks ? static_cast<Real>(m_.speed[i]) : Real(0); }

  /// out[p] = what variable p costs at the prices `z` of the constraints.
  void price(const std::vector<Real>& z, std::vector<Real>& out) const {
    for (Index p = 0; p < m_.num_variables(); ++p) {
      Real sum = z[m_.row[p]];
      for_entries(p, [&](Index i, Real a) { sum += a * z[i]; });
      out[p] = sum;
    }
  }
  /// out[i] += what the variables `x` bring to constraint i.
  void add_to_rows(const std::vector<Real>& x, std::vector<Real>& out) const {
    for_active([&](Index, Index begin, Index end) {
      for (Index p = begin; p < end; ++p) {
        out[m_.row[p]] += x[p];
        for_entries(p, [&](Index i, Real a) { out[i] += a * x[p]; });
      }
    });
  }

  /// Starts at a point in the interior: even shares (or the last ones, pulled towards these),
  /// slacks, and prices that balance the slacks.
  void start(bool warm) {
    for (Index k = 0; k < m_.num_experts(); ++k) {
      const Index begin = m_.begin[k];
      const Index end = m_.begin[k + 1];
      const Real even = Real(1) / static_cast<Real>(end - begin);
      Real sum = 0;
      for (Index p = begin; p < end; ++p) sum += warm ? b_.kept_x[p] : Real(0);
      for (Index p = begin; p < end; ++p) {
        const Real share = sum > 0 ? (1 - kPull) * (b_.kept_x[p] / sum) + kPull * even : even;
        b_.x[p] = share * static_cast<Real>(m_.want[k]);
        b_.r[p] = 0;
      }
    }
    for (Index i = 0; i < m_.num_rows; ++i) b_.residual[i] = static_cast<Real>(-m_.limit[i]);
    add_to_rows(b_.x, b_.residual);
    // T is above the largest load.
    b_.level = 1;  // the mean: the largest load is at least that, unless there are no tokens
    for (Index i = 0; i < m_.num_ranks; ++i) {
      b_.level = std::max(b_.level, b_.residual[i] / speed(i));
    }
    b_.level *= 1 + (warm ? kWarmSlack : kColdSlack);
    // Slacks and prices of the ranks. A slack times its price is about mu.
    Real balance = 0;
    for (Index i = 0; i < m_.num_ranks; ++i) {
      b_.s[i] = b_.level * speed(i) - b_.residual[i];
      balance += speed(i) / b_.s[i];
    }
    Real mu = 1 / balance;
    Real sum = 0;
    for (Index i = 0; i < m_.num_ranks; ++i) sum += warm ? speed(i) * b_.kept_z[i] : Real(0);
    Real products = 0;
    for (Index i = 0; i < m_.num_ranks; ++i) {
      const Real balanced = mu / b_.s[i];
      b_.z[i] = sum > 0 ? (1 - kPull) * (b_.kept_z[i] / sum) + kPull * balanced : balanced;
      products += b_.z[i] * b_.s[i];
    }
    mu = products / static_cast<Real>(m_.num_ranks);
    // Slacks and prices of the further constraints, and the reduced costs.
    for (Index i = m_.num_ranks; i < m_.num_rows; ++i) {
      b_.s[i] = std::max(-b_.residual[i], Real(0.1));
      b_.z[i] = std::max(warm ? b_.kept_z[i] : Real(0), mu / b_.s[i]);
    }
    price(b_.z, b_.g);
    for_active([&](Index, Index begin, Index end) {
      Real y = std::numeric_limits<Real>::max();
      for (Index p = begin; p < end; ++p) y = std::min(y, b_.g[p] - mu / b_.x[p]);
      for (Index p = begin; p < end; ++p) b_.r[p] = b_.g[p] - y;
    });
  }

  /// Measures T of the current x, the bound of the current prices (any prices give one), and
  /// violations. Sets `residual` for each constraint.
  void measure(IpmResult& result) {
    for (Index i = 0; i < m_.num_rows; ++i) b_.residual[i] = static_cast<Real>(-m_.limit[i]);
    add_to_rows(b_.x, b_.residual);
    Real top = 0;
    Real weight = 0;
    Real bound = 0;
    Real violation = 0;
    for (Index i = 0; i < m_.num_rows; ++i) {
      bound -= static_cast<Real>(m_.limit[i]) * b_.z[i];
      if (i < m_.num_ranks) {
        top = std::max(top, b_.residual[i] / speed(i));
        weight += speed(i) * b_.z[i];
      } else {
        violation = std::max(violation, b_.residual[i]);
      }
      b_.residual[i] = speed(i) * b_.level - b_.s[i] - b_.residual[i];
    }
    price(b_.z, b_.g);
    bound += cheapest(b_.g);
    result.max_load = static_cast<double>(top);
    result.lower_bound = static_cast<double>(bound / weight);
    result.violation = static_cast<double>(violation);
  }

  /// The least that the experts' tokens can cost, at prices g of the variables.
  Real cheapest(const std::vector<Real>& g) const {
    Real sum = 0;
    for_active([&](Index k, Index begin, Index end) {
      sum += static_cast<Real>(m_.want[k]) * *std::min_element(g.begin() + begin, g.begin() + end);
    });
    return sum;
  }

  /// Farkas: looks for prices of the further constraints alone at which the tokens cost more than
  /// the limits pay.
  bool proves_infeasible() {
    if (m_.num_rows == m_.num_ranks) return false;
    std::copy(b_.z.begin(), b_.z.end(), b_.dz.begin());
    std::fill(b_.dz.begin(), b_.dz.begin() + m_.num_ranks, Real(0));
    Real paid = 0;
    Real size = 0;
    for (Index i = m_.num_ranks; i < m_.num_rows; ++i) {
      paid += static_cast<Real>(m_.limit[i]) * b_.dz[i];
      size += std::abs(static_cast<Real>(m_.limit[i])) * b_.dz[i];
    }
    price(b_.dz, b_.q);
    for_active([&](Index k, Index begin, Index end) {
      Real most = 0;
      for (Index p = begin; p < end; ++p) most = std::max(most, std::abs(b_.q[p]));
      size += static_cast<Real>(m_.want[k]) * most;
    });
    return cheapest(b_.q) - paid > size * (sizeof(Real) == 4 ? Real(1e-4) : Real(1e-7));
  }

  /// One predictor and one corrector. Returns false if the matrix can no longer be factored.
  bool step() {
    assemble();
    if (!cholesky(b_.matrix.data(), m_.num_rows)) return false;
    // The solution for the speeds, by which T is eliminated.
    for (Index i = 0; i < m_.num_rows; ++i) b_.base[i] = speed(i);
    cholesky_solve(b_.matrix.data(), m_.num_rows, b_.base.data());
    border_ = 0;
    for (Index i = 0; i < m_.num_ranks; ++i) border_ += speed(i) * b_.base[i];

    // mu of the current point: the mean of x r and s z.
    Real products = 0;
    Index count = m_.num_rows;
    for_active([&](Index, Index begin, Index end) {
      for (Index p = begin; p < end; ++p) products += b_.x[p] * b_.r[p];
      count += end - begin;
    });
    for (Index i = 0; i < m_.num_rows; ++i) products += b_.s[i] * b_.z[i];
    const Real mu = products / static_cast<Real>(count);

    // The predictor: how far does a step towards mu = 0 get?
    std::fill(b_.dx.begin(), b_.dx.end(), Real(0));
    std::fill(b_.dr.begin(), b_.dr.end(), Real(0));
    std::fill(b_.ds.begin(), b_.ds.end(), Real(0));
    std::fill(b_.dz.begin(), b_.dz.end(), Real(0));
    direction(0);
    const Steps guess = longest_steps();
    Real after = 0;
    for_active([&](Index, Index begin, Index end) {
      for (Index p = begin; p < end; ++p) {
        after += (b_.x[p] + guess.primal * b_.dx[p]) * (b_.r[p] + guess.dual * b_.dr[p]);
      }
    });
    for (Index i = 0; i < m_.num_rows; ++i) {
      after += (b_.s[i] + guess.primal * b_.ds[i]) * (b_.z[i] + guess.dual * b_.dz[i]);
    }
    // The corrector aims at the mu that Mehrotra's rule gives.
    const Real ratio = after / products;
    direction(ratio * ratio * ratio * mu);
    const Steps steps = longest_steps();
    advance(std::min(Real(1), kFraction * steps.primal), std::min(Real(1), kFraction * steps.dual));
    return true;
  }

  /// Lists the constraints in which variables [begin, end) take part, ascending.
  void list_rows(Index begin, Index end) {
    b_.touched.clear();
    const auto add = [this](Index i) {
      const auto at = std::lower_bound(b_.touched.begin(), b_.touched.end(), i);
      if (at == b_.touched.end() || *at != i) b_.touched.insert(at, i);
    };
    for (Index p = begin; p < end; ++p) {
      add(m_.row[p]);
      for_entries(p, [&](Index i, Real) { add(i); });
    }
  }

  /// Sets the matrix to the sum over the variables of d c c^T, where c is the variable's column
  /// less the mean of its expert's columns, plus s / z on the diagonal, plus a multiple of speed
  /// speed^T. The last changes no solution, and keeps the matrix regular.
  void assemble() {
    const Index n = m_.num_rows;
    std::fill(b_.matrix.begin(), b_.matrix.end(), Real(0));
    for_active([&](Index k, Index begin, Index end) {
      Real weight = 0;
      for (Index p = begin; p < end; ++p) {
        b_.d[p] = b_.x[p] / b_.r[p];
        weight += b_.d[p];
      }
      b_.weight[k] = weight;
      list_rows(begin, end);
      for (const Index i : b_.touched) b_.mean[i] = 0;
      for (Index p = begin; p < end; ++p) {
        const Real part = b_.d[p] / weight;
        b_.mean[m_.row[p]] += part;
        for_entries(p, [&](Index i, Real a) { b_.mean[i] += a * part; });
      }
      for (Index p = begin; p < end; ++p) {
        for (const Index i : b_.touched) b_.column[i] = -b_.mean[i];
        b_.column[m_.row[p]] += 1;
        for_entries(p, [&](Index i, Real a) { b_.column[i] += a; });
        for (const Index i : b_.touched) {
          const Real scaled = b_.d[p] * b_.column[i];
          for (const Index j : b_.touched) {
            if (j > i) break;
            b_.matrix[i * n + j] += scaled * b_.column[j];
          }
        }
      }
    });
    Real trace = 0;
    for (Index i = 0; i < m_.num_ranks; ++i) trace += b_.matrix[i * n + i];
    fill_ = std::max(trace, Real(1)) / static_cast<Real>(m_.num_ranks * m_.num_ranks);
    for (Index i = 0; i < n; ++i) {
      for (Index j = 0; j <= i; ++j) b_.matrix[i * n + j] += fill_ * speed(i) * speed(j);
      Real& diagonal = b_.matrix[i * n + i];
      diagonal += b_.s[i] / b_.z[i];
      diagonal *= 1 + kRidge;
    }
  }

  /// The Newton direction towards x r = s z = target, less the products of the current direction
  /// (which is zero in the predictor). Overwrites the current direction.
  void direction(Real target) {
    for (Index i = 0; i < m_.num_rows; ++i) {
      const Real goal = target - b_.ds[i] * b_.dz[i];
      b_.rhs[i] = goal / b_.z[i] - b_.s[i] - b_.residual[i];
    }
    for_active([&](Index k, Index begin, Index end) {
      Real mean = 0;
      for (Index p = begin; p < end; ++p) {
        b_.dr[p] = (target - b_.dx[p] * b_.dr[p]) / b_.x[p] - b_.r[p];
        mean += b_.d[p] * b_.dr[p];
      }
      mean /= b_.weight[k];
      for (Index p = begin; p < end; ++p) b_.q[p] = b_.d[p] * (b_.dr[p] - mean);
    });
    add_to_rows(b_.q, b_.rhs);
    cholesky_solve(b_.matrix.data(), m_.num_rows, b_.rhs.data());
    Real sum = 0;
    for (Index i = 0; i < m_.num_ranks; ++i) sum += speed(i) * b_.rhs[i];
    dlevel_ = sum / border_;
    for (Index i = 0; i < m_.num_rows; ++i) b_.dz[i] = b_.rhs[i] - dlevel_ * b_.base[i];

    price(b_.dz, b_.dx);
    for_active([&](Index k, Index begin, Index end) {
      Real mean = 0;
      for (Index p = begin; p < end; ++p) mean += b_.d[p] * b_.dx[p];
      mean /= b_.weight[k];
      for (Index p = begin; p < end; ++p) {
        b_.dx[p] = b_.q[p] - b_.d[p] * (b_.dx[p] - mean);
        b_.dr[p] -= b_.dx[p] / b_.d[p];
      }
    });
    for (Index i = 0; i < m_.num_rows; ++i) b_.ds[i] = 0;
    add_to_rows(b_.dx, b_.ds);
    for (Index i = 0; i < m_.num_rows; ++i) {
      b_.ds[i] = b_.residual[i] + speed(i) * dlevel_ - b_.ds[i];
    }
  }

  struct Steps {
    Real primal = std::numeric_limits<Real>::max();
    Real dual = std::numeric_limits<Real>::max();
  };
  /// How far it is to the boundary, at most 1.
  Steps longest_steps() const {
    Steps steps;
    const auto shorten = [](Real& step, Real value, Real change) {
      if (change < 0) step = std::min(step, -value / change);
    };
    for_active([&](Index, Index begin, Index end) {
      for (Index p = begin; p < end; ++p) {
        shorten(steps.primal, b_.x[p], b_.dx[p]);
        shorten(steps.dual, b_.r[p], b_.dr[p]);
      }
    });
    for (Index i = 0; i < m_.num_rows; ++i) {
      shorten(steps.primal, b_.s[i], b_.ds[i]);
      shorten(steps.dual, b_.z[i], b_.dz[i]);
    }
    return {std::min(steps.primal, Real(1)), std::min(steps.dual, Real(1))};
  }

  void advance(Real primal, Real dual) {
    for_active([&](Index, Index begin, Index end) {
      for (Index p = begin; p < end; ++p) {
        b_.x[p] += primal * b_.dx[p];
        b_.r[p] += dual * b_.dr[p];
      }
    });
    for (Index i = 0; i < m_.num_rows; ++i) {
      b_.s[i] += primal * b_.ds[i];
      b_.z[i] += dual * b_.dz[i];
    }
    b_.level += primal * dlevel_;
  }

  const IpmModel& m_;
  IpmState<Real>& b_;
  Real fill_ = 0;
  Real border_ = 0;
  Real dlevel_ = 0;
};

}  // namespace lplb::solvers
