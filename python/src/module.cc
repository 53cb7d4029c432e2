// SPDX-License-Identifier: MIT
#include <nanobind/nanobind.h>

#include "lplb/lplb.h"

NB_MODULE(_lplb, m) { m.attr("__version__") = lplb::version(); }
