// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>

#include "lplb/types.h"

namespace lplb::solvers {

/// Factors the symmetric matrix `a` [n, n] into L L^T. It reads the lower half, and L overwrites
/// it. Returns false if a pivot is not positive.
template <class Real>
bool cholesky(Real* a, Index n) {
  for (Index j = 0; j < n; ++j) {
    Real* const row_j = a + std::size_t{1} * j * n;
    Real pivot = row_j[j];
    for (Index k = 0; k < j; ++k) pivot -= row_j[k] * row_j[k];
    if (!(pivot > 0)) return false;
    pivot = std::sqrt(pivot);
    row_j[j] = pivot;
    for (Index i = j + 1; i < n; ++i) {
      Real* const row_i = a + std::size_t{1} * i * n;
      Real sum = row_i[j];
      for (Index k = 0; k < j; ++k) sum -= row_i[k] * row_j[k];
      row_i[j] = sum / pivot;
    }
  }
  return true;
}

/// Solves L L^T x = b in place.
template <class Real>
void cholesky_solve(const Real* a, Index n, Real* b) {
  for (Index i = 0; i < n; ++i) {
    Real sum = b[i];
    for (Index k = 0; k < i; ++k) sum -= a[std::size_t{1} * i * n + k] * b[k];
    b[i] = sum / a[std::size_t{1} * i * n + i];
  }
  for (Index i = n; i-- > 0;) {
    const Real* const row = a + std::size_t{1} * i * n;
    const Real x = b[i] / row[i];
    b[i] = x;
    for (Index k = 0; k < i; ++k) b[k] -= row[k] * x;
  }
}

}  // namespace lplb::solvers
