// SPDX-License-Identifier: MIT
#pragma once

extern "C" {
extern const unsigned char lplb_ipm_cubin_8[];
extern const unsigned char lplb_ipm_cubin_16[];
extern const unsigned char lplb_ipm_cubin_32[];
extern const unsigned char lplb_ipm_cubin_64[];
extern const unsigned char lplb_ipm_cubin_144[];
}

namespace lplb::solvers {

/// The fatbin with kernel lplb_ipm for matrices of `rows` rows, one of kIpmSizes; null for other
/// sizes.
const void* ipm_cubin(int rows);

}  // namespace lplb::solvers
