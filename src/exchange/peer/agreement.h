// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <exception>
#include <string>
#include <vector>

#include "lplb/device_exchange.h"

namespace lplb::exchange {

/// Lets the ranks of a group set up an exchange in steps that may fail. After each step all ranks
/// report success or failure, and every rank makes the same calls of all_gather(), whatever fails
/// on which rank.
class Agreement {
 public:
  using Bytes = std::vector<std::byte>;

  Agreement(Index num_ranks, const AllGatherBytes& all_gather)
      : num_ranks_(num_ranks), all_gather_(all_gather) {}

  /// Gathers the texts of all ranks: [num_ranks][count]. All ranks must give the same number of
  /// texts. Throws ExchangeError.
  std::vector<std::vector<std::string>> tell(const std::vector<std::string>& mine) const;

  /// Throws ExchangeError if any rank's text `index` differs from that of rank 0. `told` is what
  /// tell() returned; the text says what the rank connects.
  static void require_same(const std::vector<std::vector<std::string>>& told, std::size_t index);

  /// Runs `step`, then gathers what went wrong on each rank, and what the step returned. Returns
  /// the trouble of the first rank that had any; empty if none had. `*results` gets what the step
  /// returned on each rank.
  template <class Step>
  std::string run(Step step, std::vector<Bytes>* results) const {
    std::string trouble;
    Bytes mine;
    try {
      mine = step();
    } catch (const std::exception& error) {
      trouble = error.what();
    }
    return share(trouble, mine, results);
  }

 private:
  std::string share(const std::string& trouble, const Bytes& mine,
                    std::vector<Bytes>* results) const;

  Index num_ranks_;
  const AllGatherBytes& all_gather_;
};

}  // namespace lplb::exchange
