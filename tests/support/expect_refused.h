// SPDX-License-Identifier: MIT
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "lplb/error.h"

namespace lplb::testing {

/// Expects that `call` throws an Exception with `part` in its message.
template <class Exception = ArgumentError>
void expect_refused(const std::function<void()>& call, const char* part) {
  try {
    call();
    ADD_FAILURE() << "accepted: expected " << part;
  } catch (const Exception& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr(part));
  }
}

}  // namespace lplb::testing
