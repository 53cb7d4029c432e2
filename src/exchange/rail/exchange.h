// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <vector>

#include "exchange/peer/agreement.h"
#include "exchange/rail/rail.h"
#include "lplb/rail_exchange.h"

// What the makers of an exchange of two levels by puts share, whatever network it is of.
namespace lplb::exchange {

/// A rank's number among those of all domains, and how many these are.
struct RailRank {
  Index rank;
  Index num_ranks;
  Index domain_size;  ///< ranks of a domain
  Index rank_in_domain() const { return rank % domain_size; }
};

/// A rank's memory for the rail, and the network that reaches the others'. Its two steps fail by
/// exceptions; behind each the ranks tell each other how it went.
class RailMemory {
 public:
  virtual ~RailMemory() = default;
  /// In no collective call: what the others need.
  virtual Agreement::Bytes offer() = 0;
  /// rail_buffer_bytes() of zeroed memory. May be collective.
  virtual void accept(const std::vector<Agreement::Bytes>& offers) = 0;
  /// Every rank has its memory, and will end it: the destructor may be collective from now on.
  virtual void settle() {}

  virtual unsigned char* own() const = 0;
  /// Loads the kernel: at its first launch that would wait for the rounds of other ranks of the
  /// process. Throws CudaError.
  virtual void prepare() const = 0;
  /// Throws CudaError.
  virtual void launch(const RailArgs& args, StreamHandle stream) const = 0;
};

/// Throws ArgumentError.
void check_rail(const RailOptions& options, const DeviceExchange* domain_exchange,
                const AllGatherBytes& all_gather);
RailLayout layout_of(const RailOptions& options);
RailRank rank_of(const RailOptions& options, const DeviceExchange* domain_exchange);

/// Collective: all ranks get one, or all throw ExchangeError.
std::shared_ptr<DeviceExchange> connect_rail(const RailOptions& options,
                                             std::shared_ptr<DeviceExchange> domain_exchange,
                                             const AllGatherBytes& all_gather,
                                             std::unique_ptr<RailMemory> memory);

}  // namespace lplb::exchange
