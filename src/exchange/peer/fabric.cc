// SPDX-License-Identifier: MIT
#include <cuda.h>

#include <cstring>

#include "core/device.h"
#include "core/format.h"
#include "exchange/peer/memory.h"
#include "lplb/backend.h"
#include "lplb/error.h"

// The transport of fabric handles: processes of one NVLink domain, on one machine or several.
namespace lplb::exchange {
namespace {

/// Returns a function of the driver, looked up through the runtime. So nothing is linked that a
/// machine without a driver lacks.
template <class Function>
Function* driver_function(const char* name) {
  void* address = nullptr;
  cudaDriverEntryPointQueryResult found{};
  LPLB_CUDA_CHECK(
      cudaGetDriverEntryPointByVersion(name, &address, 12040, cudaEnableDefault, &found));
  if (found != cudaDriverEntryPointSuccess || address == nullptr) {
    throw CudaError(formatted("{}: the driver has no such function", name));
  }
  return reinterpret_cast<Function*>(address);
}

#define LPLB_DRIVER_FUNCTION(function) \
  decltype(::function)* const function = driver_function<decltype(::function)>(#function)

struct Driver {
  LPLB_DRIVER_FUNCTION(cuGetErrorString);
  LPLB_DRIVER_FUNCTION(cuMemGetAllocationGranularity);
  LPLB_DRIVER_FUNCTION(cuMemCreate);
  LPLB_DRIVER_FUNCTION(cuMemRelease);
  LPLB_DRIVER_FUNCTION(cuMemAddressReserve);
  LPLB_DRIVER_FUNCTION(cuMemAddressFree);
  LPLB_DRIVER_FUNCTION(cuMemMap);
  LPLB_DRIVER_FUNCTION(cuMemUnmap);
  LPLB_DRIVER_FUNCTION(cuMemSetAccess);
  LPLB_DRIVER_FUNCTION(cuMemExportToShareableHandle);
  LPLB_DRIVER_FUNCTION(cuMemImportFromShareableHandle);
};

const Driver& driver() {
  static const Driver functions;
  return functions;
}

void check_driver(CUresult status, const char* name) {
  if (status == CUDA_SUCCESS) return;
  const char* text = nullptr;
  (void)driver().cuGetErrorString(status, &text);
  throw CudaError(formatted("{}: {}", name, text != nullptr ? text : "unknown error"));
}

#define LPLB_DRIVER(function, ...) check_driver(driver().function(__VA_ARGS__), #function)

CUmemAllocationProp allocation_on_current_device() {
  int device = 0;
  LPLB_CUDA_CHECK(cudaGetDevice(&device));
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  prop.location.id = device;
  prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_FABRIC;
  return prop;
}

/// An allocation of this process or of another one, mapped for the current device.
class Mapping {
 public:
  Mapping(CUmemGenericAllocationHandle handle, std::size_t size, const CUmemLocation& where)
      : handle_(handle), size_(size) {
    try {
      LPLB_DRIVER(cuMemAddressReserve, &address_, size_, 0, 0, 0);
      LPLB_DRIVER(cuMemMap, address_, size_, 0, handle_, 0);
      is_mapped_ = true;
      const CUmemAccessDesc access{where, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
      LPLB_DRIVER(cuMemSetAccess, address_, size_, &access, 1);
    } catch (...) {
      release();
      throw;
    }
  }
  ~Mapping() { release(); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  void* get() const {
    return reinterpret_cast<void*>(address_);  // NOLINT(performance-no-int-to-ptr)
  }
  CUmemGenericAllocationHandle handle() const { return handle_; }
  std::size_t size() const { return size_; }

 private:
  /// NOTE: errors are ignored here. They come from earlier work, which reports them itself.
  void release() noexcept {
    if (is_mapped_) (void)driver().cuMemUnmap(address_, size_);
    if (address_ != 0) (void)driver().cuMemAddressFree(address_, size_);
    (void)driver().cuMemRelease(handle_);
  }

  CUmemGenericAllocationHandle handle_;
  std::size_t size_;
  CUdeviceptr address_ = 0;
  bool is_mapped_ = false;
};

std::unique_ptr<Mapping> allocate(std::size_t bytes) {
  const CUmemAllocationProp prop = allocation_on_current_device();
  std::size_t step = 0;
  LPLB_DRIVER(cuMemGetAllocationGranularity, &step, &prop, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
  const std::size_t size = (bytes + step - 1) / step * step;
  CUmemGenericAllocationHandle handle{};
  LPLB_DRIVER(cuMemCreate, &handle, size, &prop, 0);
  return std::make_unique<Mapping>(handle, size, prop.location);
}

CUmemFabricHandle export_handle(const Mapping& mapping) {
  CUmemFabricHandle handle{};
  LPLB_DRIVER(cuMemExportToShareableHandle, &handle, mapping.handle(), CU_MEM_HANDLE_TYPE_FABRIC,
              0);
  return handle;
}

class FabricMemory : public PeerMemory {
 public:
  FabricMemory(std::unique_ptr<Mapping> own, Index rank,
               const std::vector<std::vector<std::byte>>& offers) {
    const CUmemLocation here = allocation_on_current_device().location;
    const std::size_t size = own->size();
    bytes_ = size;
    for (std::size_t g = 0; g < offers.size(); ++g) {
      if (g == static_cast<std::size_t>(rank)) {
        mappings_.push_back(std::move(own));
      } else {
        if (offers[g].size() != sizeof(CUmemFabricHandle)) {
          throw ExchangeError(formatted("rank {} sent an offer of another size", g));
        }
        CUmemFabricHandle fabric{};
        std::memcpy(&fabric, offers[g].data(), sizeof(fabric));
        CUmemGenericAllocationHandle handle{};
        LPLB_DRIVER(cuMemImportFromShareableHandle, &handle, &fabric, CU_MEM_HANDLE_TYPE_FABRIC);
        mappings_.push_back(std::make_unique<Mapping>(handle, size, here));
      }
      buffers_.push_back(mappings_.back()->get());
    }
  }

 private:
  std::vector<std::unique_ptr<Mapping>> mappings_;
};

class FabricMaker : public Maker {
 public:
  explicit FabricMaker(Index rank) : rank_(rank) {}

  std::vector<std::byte> offer(std::size_t bytes) override {
    own_ = allocate(bytes);
    LPLB_CUDA_CHECK(cudaMemset(own_->get(), 0, own_->size()));
    LPLB_CUDA_CHECK(cudaDeviceSynchronize());
    const CUmemFabricHandle handle = export_handle(*own_);
    const auto* const first = reinterpret_cast<const std::byte*>(&handle);
    return {first, first + sizeof(handle)};
  }
  std::unique_ptr<PeerMemory> accept(const std::vector<std::vector<std::byte>>& offers) override {
    return std::make_unique<FabricMemory>(std::move(own_), rank_, offers);
  }

 private:
  Index rank_;
  std::unique_ptr<Mapping> own_;
};

}  // namespace

/// NOTE: the device's attribute only says what the hardware can do. Whether the system lets this
/// process use it (IMEX channels) shows only when it is tried.
std::string find_missing_for_fabric() {
  try {
    LPLB_CUDA_CHECK(cudaFree(nullptr));  // the driver's functions need the runtime's context
    (void)export_handle(*allocate(1));
    return "";
  } catch (const CudaError& error) {
    return error.what();
  }
}

std::unique_ptr<Maker> make_fabric(const MakerGroup& group) {
  return std::make_unique<FabricMaker>(group.rank);
}

}  // namespace lplb::exchange
