// SPDX-License-Identifier: MIT
#include <nvshmem.h>
#include <nvshmemx.h>

#include "exchange/rail/kernel.cuh"
#include "exchange/rail/nvshmem.h"
#include "lplb/error.h"

namespace lplb::exchange {
namespace {

struct NvshmemNetwork : NvshmemRailArgs {
  __device__ void put(int domain, std::int64_t to, std::int64_t from, int bytes, int signal) const {
    nvshmemx_putmem_signal_nbi_warp(own + to, own + from, static_cast<std::size_t>(bytes),
                                    signal_at(signal), 1, NVSHMEM_SIGNAL_ADD,
                                    first_pe + domain * pe_stride);
  }
  __device__ unsigned long long signal(int index) const {
    return device::load_signal(signal_at(index));
  }

 private:
  __device__ std::uint64_t* signal_at(int index) const {
    return reinterpret_cast<std::uint64_t*>(own + signals) + index;
  }
};

}  // namespace

NvshmemVersion nvshmem_kernel_version() {
  return {NVSHMEM_VENDOR_MAJOR_VERSION, NVSHMEM_VENDOR_MINOR_VERSION, NVSHMEM_VENDOR_PATCH_VERSION};
}

void join_nvshmem() {
  nvshmemx_init_attr_t attributes = NVSHMEMX_INIT_ATTR_INITIALIZER;
  if (nvshmemx_init_attr(NVSHMEMX_INIT_WITH_UNIQUEID, &attributes) != 0) {
    throw ExchangeError("nvshmemx_init_attr failed");
  }
  prepare_rail<NvshmemNetwork>();
}

void launch_nvshmem_rail(const RailArgs& args, const NvshmemRailArgs& network,
                         StreamHandle stream) {
  launch_rail(args, NvshmemNetwork{network}, stream);
}

}  // namespace lplb::exchange
