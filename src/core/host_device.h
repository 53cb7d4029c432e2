// SPDX-License-Identifier: MIT
#pragma once

// On scalar code that every backend shares: no allocation, no exceptions, no standard containers.
#ifdef __CUDACC__
#define LPLB_HOST_DEVICE __host__ __device__
#else
#define LPLB_HOST_DEVICE
#endif
