// SPDX-License-Identifier: MIT
#include "exchange/libraries/nccl_library.h"

#include "core/device.h"
#include "core/format.h"
#include "exchange/libraries/shared_library.h"

namespace lplb::exchange {
namespace {

template <class Function>
void load(const SharedLibrary& library, const char* symbol, Function*& to) {
  to = library.find<Function>(symbol);
}

NcclLibrary load_nccl() {
  NcclLibrary nccl;
  // NOTE: the name is libnccl.so.2, not libnccl.so, because torch loads NCCL by that name.
  const SharedLibrary library("libnccl.so.2");
  nccl.missing = library.missing();
  if (!nccl.missing.empty()) return nccl;
  try {
    (void)library.get<NcclLibrary::Result(int*)>("ncclGetVersion")(&nccl.version);
    nccl.error_string = library.get<const char*(NcclLibrary::Result)>("ncclGetErrorString");
    nccl.comm_count = library.get<NcclLibrary::Result(void*, int*)>("ncclCommCount");
    nccl.comm_user_rank = library.get<NcclLibrary::Result(void*, int*)>("ncclCommUserRank");
    nccl.all_gather =
        library.get<NcclLibrary::Result(const void*, void*, std::size_t, int, void*, cudaStream_t)>(
            "ncclAllGather");
  } catch (const ExchangeError& error) {
    nccl.missing = error.what();
    return nccl;
  }
  load(library, "ncclGetLastError", nccl.last_error);
  load(library, "ncclMemAlloc", nccl.mem_alloc);
  load(library, "ncclMemFree", nccl.mem_free);
  load(library, "ncclCommWindowRegister", nccl.window_register);
  load(library, "ncclCommWindowDeregister", nccl.window_deregister);
  load(library, "ncclGetPeerDevicePointer", nccl.peer_pointer);
  return nccl;
}

}  // namespace

const NcclLibrary& NcclLibrary::get() {
  static const NcclLibrary nccl = load_nccl();
  return nccl;
}

const NcclLibrary& NcclLibrary::require() {
  const NcclLibrary& nccl = get();
  if (!nccl.missing.empty()) throw ExchangeError("NCCL: " + nccl.missing);
  return nccl;
}

void NcclLibrary::check(Result result, const char* call) const {
  if (result == 0) return;
  const char* const detail = last_error != nullptr ? last_error(nullptr) : nullptr;
  throw ExchangeError(formatted("{}: {}{}{}", call, error_string(result),
                                detail != nullptr && *detail != 0 ? ": " : "",
                                detail != nullptr ? detail : ""));
}

std::string NcclLibrary::find_other_rank(Comm comm, int rank, int num_ranks) const {
  int its_count = 0;
  int its_rank = 0;
  check(comm_count(comm, &its_count), "ncclCommCount");
  check(comm_user_rank(comm, &its_rank), "ncclCommUserRank");
  if (its_count == num_ranks && its_rank == rank) return "";
  return formatted("the communicator has rank {} of {}, expected rank {} of {}", its_rank,
                   its_count, rank, num_ranks);
}

void* NcclLibrary::allocate(std::size_t* bytes) const {
  constexpr std::size_t kPage = 4096;  // windows must be aligned to this
  *bytes = (*bytes + kPage - 1) / kPage * kPage;
  void* memory = nullptr;
  check(mem_alloc(&memory, *bytes), "ncclMemAlloc");
  try {
    LPLB_CUDA_CHECK(cudaMemset(memory, 0, *bytes));
    LPLB_CUDA_CHECK(cudaDeviceSynchronize());
  } catch (...) {
    (void)mem_free(memory);
    throw;
  }
  return memory;
}

NcclLibrary::Window NcclLibrary::register_memory(Comm comm, void* memory, std::size_t bytes) const {
  Window window = nullptr;
  check(window_register(comm, memory, bytes, &window, kWindowSymmetric), "ncclCommWindowRegister");
  if (window == nullptr) {
    throw ExchangeError("ncclCommWindowRegister: the communicator has no symmetric memory");
  }
  return window;
}

std::string NcclLibrary::version_text() const {
  return formatted("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

}  // namespace lplb::exchange
