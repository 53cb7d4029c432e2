// SPDX-License-Identifier: MIT
#pragma once

#include "lplb/export.h"

// The version of the whole project: CMake and the command read it from here.
#define LPLB_VERSION_MAJOR 0
#define LPLB_VERSION_MINOR 1
#define LPLB_VERSION_PATCH 0

namespace lplb {

/// The version of the library that is linked in: "major.minor.patch". The macros have the version
/// of the headers.
LPLB_API const char* version() noexcept;

}  // namespace lplb
