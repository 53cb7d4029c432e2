// SPDX-License-Identifier: MIT
#include "exchange/rail/gin.h"
#include "exchange/rail/kernel.cuh"

namespace lplb::exchange {
namespace {

struct GinNetwork : GinRailArgs {
  __device__ void put(int domain, std::int64_t to, std::int64_t from, int bytes, int signal) const {
    const ncclGin gin(comm, 0);
    gin.put(ncclTeamWorld(comm), first_rank + domain * rank_stride, window,
            static_cast<std::size_t>(to), window, static_cast<std::size_t>(from),
            static_cast<std::size_t>(bytes),
            ncclGin_SignalInc{static_cast<ncclGinSignal_t>(signal)}, ncclGin_None{},
            ncclCoopWarp());
  }
  __device__ unsigned long long signal(int index) const {
    return ncclGin(comm, 0).readSignal(static_cast<ncclGinSignal_t>(index));
  }
};

}  // namespace

void prepare_gin_rail() { prepare_rail<GinNetwork>(); }

void launch_gin_rail(const RailArgs& args, const GinRailArgs& network, StreamHandle stream) {
  launch_rail(args, GinNetwork{network}, stream);
}

}  // namespace lplb::exchange
