// SPDX-License-Identifier: MIT
#pragma once

// Every header includes this one before it uses anything of C++20. NOTE: compilers go on after
// #error, and a hundred errors would follow; a missing header ends the compilation.
#if __cplusplus < 202002L
#error "LPLB needs C++20: compile with -std=c++20"
#include <lplb_needs_cpp_twenty>
#endif

// LPLB_API marks what a shared build of the library exports; all else is hidden. LPLB_HIDDEN marks
// a nested class that its exported outer class would otherwise export too.
#if defined(__GNUC__)
#define LPLB_API __attribute__((visibility("default")))
#define LPLB_HIDDEN __attribute__((visibility("hidden")))
#else
#define LPLB_API
#define LPLB_HIDDEN
#endif
