// SPDX-License-Identifier: MIT
#include <iterator>
#include <string>

#include "lplb/device_exchange.h"
#include "lplb/error.h"

namespace lplb {
namespace {

constexpr const char* kNames[] = {"given", "process", "ipc", "fabric", "nccl", "nvshmem"};

}  // namespace

const char* transport_name(Transport transport) { return kNames[static_cast<int>(transport)]; }

Transport parse_transport(std::string_view name) {
  std::string known;
  for (std::size_t i = 0; i < std::size(kNames); ++i) {
    if (name == kNames[i]) return static_cast<Transport>(i);
    known += std::string(i == 0 ? "" : ", ") + kNames[i];
  }
  throw ArgumentError("transport", "\"" + std::string(name) + "\" is not one of " + known);
}

}  // namespace lplb
