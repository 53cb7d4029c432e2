// SPDX-License-Identifier: MIT
#pragma once

// The whole public API of lplb::lplb. rail_exchange.h is not included: its functions are in
// libraries of their own.
#include "lplb/backend.h"
#include "lplb/controller.h"
#include "lplb/cost.h"
#include "lplb/cost_file.h"
#include "lplb/device_counter.h"
#include "lplb/device_exchange.h"
#include "lplb/device_planner.h"
#include "lplb/device_weights.h"
