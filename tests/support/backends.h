// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "core/launches.h"
#include "lplb/backend.h"

// Lets one test source serve all backends. Names of tests that need a GPU end in "cuda" or contain
// "Cuda."; lplb_add_test() labels these gpu.
namespace lplb::testing {

/// Skips the calling test if `backend` cannot run here.
#define LPLB_SKIP_WITHOUT(backend)                                                    \
  if ((backend) == ::lplb::Backend::kCuda && !::lplb::cuda_support().missing.empty()) \
  GTEST_SKIP() << "no GPU: " << ::lplb::cuda_support().missing

/// A fixture that runs on each backend.
template <class Base>
class OnBackend : public Base {
 protected:
  void SetUp() override { LPLB_SKIP_WITHOUT(this->backend()); }
  /// Expects that `call` launches kernels on kCuda and none on kCpu.
  template <class Call>
  void expect_it_runs_there(Call call) {
    const std::int64_t before = num_launches();
    call();
    EXPECT_EQ(num_launches() > before, this->backend() == Backend::kCuda);
  }
};

class BackendParam : public ::testing::TestWithParam<Backend> {
 protected:
  Backend backend() const { return GetParam(); }
};
using BackendTest = OnBackend<BackendParam>;

inline std::string backend_test_name(const ::testing::TestParamInfo<Backend>& test) {
  return backend_name(test.param);
}

#define LPLB_ON_ALL_BACKENDS(suite)                                                      \
  INSTANTIATE_TEST_SUITE_P(All, suite, ::testing::Values(Backend::kCpu, Backend::kCuda), \
                           ::lplb::testing::backend_test_name)

}  // namespace lplb::testing
