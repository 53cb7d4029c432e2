// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <vector>

#include "exchange/peer/agreement.h"
#include "exchange/rail/rail.h"
#include "lplb/rail_exchange.h"

// What all exchanges of two levels whose rail is a network of puts share.
namespace lplb::exchange {

/// A rank's number among the ranks of all domains, and how many ranks there are.
struct RailRank {
  Index rank;
  Index num_ranks;
  Index domain_size;  ///< how many ranks a domain has
  Index rank_in_domain() const { return rank % domain_size; }
};

/// A rank's memory for the rail, and the network that reaches the memory of the others. It is set
/// up in two steps, offer() and accept(). A step that fails throws. After each step the ranks tell
/// each other how it went.
class RailMemory {
 public:
  virtual ~RailMemory() = default;
  /// Returns what the others need to reach this rank. Must not make a collective call.
  virtual Agreement::Bytes offer() = 0;
  /// Allocates rail_buffer_bytes() of zeroed memory. `offers` holds what offer() returned on each
  /// rank. May be collective.
  virtual void accept(const std::vector<Agreement::Bytes>& offers) = 0;
  /// Says that every rank has its memory, and that every rank will destroy it. From now on the
  /// destructor may be collective.
  virtual void settle() {}

  virtual unsigned char* own() const = 0;
  /// Loads the kernel. NOTE: if it were loaded at its first launch, that would wait for the rounds
  /// of other ranks of the process. Throws CudaError.
  virtual void prepare() const = 0;
  /// Enqueues one round. Throws CudaError.
  virtual void launch(const RailArgs& args, StreamHandle stream) const = 0;
};

/// Checks the arguments of the public functions. Throws ArgumentError.
void check_rail(const RailOptions& options, const DeviceExchange* domain_exchange,
                const AllGatherBytes& all_gather);
RailLayout layout_of(const RailOptions& options);
RailRank rank_of(const RailOptions& options, const DeviceExchange* domain_exchange);

/// Makes the exchange. Collective: all ranks get one, or all throw ExchangeError.
std::shared_ptr<DeviceExchange> connect_rail(const RailOptions& options,
                                             std::shared_ptr<DeviceExchange> domain_exchange,
                                             const AllGatherBytes& all_gather,
                                             std::unique_ptr<RailMemory> memory);

}  // namespace lplb::exchange
