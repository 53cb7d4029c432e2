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
#include "lplb/error.h"
#include "lplb/exchange.h"
#include "lplb/homes.h"
#include "lplb/load_history.h"
#include "lplb/lp.h"
#include "lplb/mapping.h"
#include "lplb/placement.h"
#include "lplb/planner.h"
#include "lplb/quotas.h"
#include "lplb/replicate.h"
#include "lplb/schedule.h"
#include "lplb/simulate.h"
#include "lplb/solver.h"
#include "lplb/topology.h"
#include "lplb/trace.h"
#include "lplb/types.h"
#include "lplb/version.h"
