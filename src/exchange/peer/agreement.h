// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <exception>
#include <string>
#include <vector>

#include "lplb/device_exchange.h"

namespace lplb::exchange {

/// The ranks of a group on their way to an exchange. Every rank makes the same calls of
/// all_gather(), whatever fails where.
class Agreement {
 public:
  using Bytes = std::vector<std::byte>;

  Agreement(Index num_ranks, const AllGatherBytes& all_gather)
      : num_ranks_(num_ranks), all_gather_(all_gather) {}

  /// What each rank says, as many texts as the others: [num_ranks][count]. Throws ExchangeError.
  std::vector<std::vector<std::string>> tell(const std::vector<std::string>& mine) const;

  /// Of what tell() returned: throws ExchangeError where a rank's text `index`, which says what it
  /// connects, is not that of rank 0.
  static void require_same(const std::vector<std::vector<std::string>>& told, std::size_t index);

  /// Runs `step`, then tells the others what went wrong, and what came of it. Returns the first
  /// rank's trouble, empty: none had any.
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
