// SPDX-License-Identifier: MIT
#pragma once

#include <cstring>
#include <span>

#include "exchange/libraries/nccl_library.h"
#include "exchange/libraries/shared_library.h"
#include "support/process_group.h"

namespace lplb::testing {

/// An NCCL communicator of the group.
class NcclComm {
 public:
  explicit NcclComm(ProcessGroup& group) : library_("libnccl.so.2") {
    struct UniqueId {
      char bytes[128];
    };
    UniqueId id{};
    if (group.rank() == 0) {
      exchange::NcclLibrary::require().check(library_.get<int(UniqueId*)>("ncclGetUniqueId")(&id),
                                             "ncclGetUniqueId");
    }
    const auto all = group.all_gather(std::as_bytes(std::span(&id, 1)));
    std::memcpy(&id, all[0].data(), sizeof(id));
    exchange::NcclLibrary::require().check(
        library_.get<int(void**, int, UniqueId, int)>("ncclCommInitRank")(&comm_, group.num_ranks(),
                                                                          id, group.rank()),
        "ncclCommInitRank");
  }
  ~NcclComm() { (void)library_.get<int(void*)>("ncclCommDestroy")(comm_); }
  NcclComm(const NcclComm&) = delete;
  NcclComm& operator=(const NcclComm&) = delete;
  void* get() const { return comm_; }

 private:
  exchange::SharedLibrary library_;
  void* comm_ = nullptr;
};

}  // namespace lplb::testing
