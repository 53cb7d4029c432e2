// SPDX-License-Identifier: MIT
#include "simulate/batch_facts.h"

#include <algorithm>

namespace lplb::replay {

void BatchFacts::add(const Batch& batch) {
  const std::int64_t number = num_batches_++;
  if (domains_.empty() || domains_.back().name != batch.domain) {
    domains_.push_back({number, batch.domain});
  }
  expert_load_.resize(batch.load.size(), 0);
  if (number < warm_up_) return;
  for (std::size_t i = 0; i < batch.load.size(); ++i) {
    expert_load_[i] += static_cast<double>(batch.load[i]);
  }
}

void BatchFacts::finish(SimulateReport& report) {
  const auto named = [](const DomainStart& start) { return !start.name.empty(); };
  if (std::ranges::any_of(domains_, named)) report.domains = std::move(domains_);
  report.expert_load = std::move(expert_load_);
}

}  // namespace lplb::replay
