// SPDX-License-Identifier: MIT
#pragma once

// LPLB_API marks what a shared build of the library exports; all else is hidden. LPLB_HIDDEN marks
// a nested class that its exported outer class would otherwise export too.
#if defined(__GNUC__)
#define LPLB_API __attribute__((visibility("default")))
#define LPLB_HIDDEN __attribute__((visibility("hidden")))
#else
#define LPLB_API
#define LPLB_HIDDEN
#endif
