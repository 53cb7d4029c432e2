// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <array>
#include <mutex>
#include <thread>
#include <vector>

#include "lplb/planner.h"
#include "lplb/weight_exchange.h"
#include "support/instances.h"

// A whole layer with copies for each batch, forward and backward: eight ranks are threads, each
// expert is a small matrix, and outputs and gradients must be those of a layer without copies.
namespace lplb {
namespace {

using namespace std::chrono_literals;
using testing::SplitMix64;

constexpr Index kRanks = 8;
constexpr Index kExperts = 32;
constexpr Index kOwn = kExperts / kRanks;
constexpr Index kSlots = 2;
constexpr std::size_t kSize = 4;  // of a token
constexpr int kBatches = 6;

using Vector = std::array<float, kSize>;
using Matrix = std::array<Vector, kSize>;

/// Small integers, so that sums are exact in any order.
Vector draw_vector(SplitMix64& random) {
  Vector out;
  for (float& x : out) x = static_cast<float>(random.below(5) - 2);
  return out;
}

Matrix draw_matrix(std::uint64_t seed) {
  SplitMix64 random(seed);
  Matrix out;
  for (Vector& row : out) row = draw_vector(random);
  return out;
}

Matrix weights_of(Index expert, int batch) {
  return draw_matrix(static_cast<std::uint64_t>(100 * batch + expert) + 1);
}

Vector apply(const Matrix& m, const Vector& x) {
  Vector y{};
  for (std::size_t i = 0; i < kSize; ++i) {
    for (std::size_t k = 0; k < kSize; ++k) y[i] += m[i][k] * x[k];
  }
  return y;
}

/// The gradient of sum(y) by the matrix: every row grows by x.
void add_gradient(Matrix& gradient, const Vector& x) {
  for (Vector& row : gradient) {
    for (std::size_t k = 0; k < kSize; ++k) row[k] += x[k];
  }
}

/// A batch of one rank: an expert for each token, some much more often than others.
struct Tokens {
  Tokens(Index rank, int batch) {
    SplitMix64 random(static_cast<std::uint64_t>(1000 * batch + rank));
    const Index count = random.below(150);
    for (Index i = 0; i < count; ++i) {
      const Index hot = (7 * batch + random.below(3)) % kExperts;
      expert.push_back(random.below(2) == 0 ? hot : random.below(kExperts));
      x.push_back(draw_vector(random));
    }
  }
  std::vector<std::int32_t> expert;
  std::vector<Vector> x;
};

/// What the ranks do for each other in place of a dispatch: one array of inputs for each slot.
struct Dispatch {
  struct Sent {
    Index from;
    std::size_t token;
    Vector x;
  };
  std::mutex mutex;
  std::vector<std::vector<Sent>> of_slot;
};

struct Rank {
  std::array<Matrix, kOwn> main, main_gradient;
  std::array<Matrix, kSlots> dynamic, dynamic_gradient;

  WeightBuffers buffers() {
    WeightBuffers out;
    for (std::size_t i = 0; i < kOwn; ++i) {
      out.main.push_back({&main[i][0], &main[i][2]});  // two tensors: two rows each
      out.main_gradients.push_back(&main_gradient[i]);
    }
    for (std::size_t i = 0; i < kSlots; ++i) {
      out.dynamic.push_back({&dynamic[i][0], &dynamic[i][2]});
      out.dynamic_gradients.push_back(&dynamic_gradient[i]);
    }
    return out;
  }
};

class Layer {
 public:
  Layer() {
    for (Index e = 0; e < kExperts; ++e) homes_.push_back(e);
    placement_ = make_placement(kRanks, kExperts, homes_);
    for (auto& batch : outputs_) batch.resize(kRanks);
    for (auto& batch : gradients_) batch.resize(kExperts);
    for (Dispatch& dispatch : dispatch_) dispatch.of_slot.resize(kRanks * (kOwn + kSlots));
  }

  /// Runs all ranks; rank `late` sits out the fetch of batch 2.
  void run(Index late) {
    const std::chrono::microseconds deadline = late < 0 ? 10s : 1s;
    InProcessGroup counts(kRanks);
    InProcessGroup steps(kRanks);
    InProcessWeights weights(placement_, kSlots,
                             {{2 * sizeof(Vector), 2 * sizeof(Vector)}, kSize * kSize}, deadline);
    std::vector<std::thread> threads;
    for (Index g = 0; g < kRanks; ++g) {
      threads.emplace_back([this, g, late, counts = counts.member(g), steps = steps.member(g),
                            &weights] { run_rank(g, late, counts, *steps, weights); });
    }
    for (std::thread& thread : threads) thread.join();
  }

  /// Outputs and gradients are those of experts that each compute all of their tokens.
  void check() const {
    for (int batch = 0; batch < kBatches; ++batch) {
      std::vector<Matrix> gradient(kExperts);
      for (Matrix& m : gradient) m = {};
      for (Index g = 0; g < kRanks; ++g) {
        const Tokens tokens(g, batch);
        for (std::size_t i = 0; i < tokens.x.size(); ++i) {
          const Matrix w = weights_of(tokens.expert[i], batch / 2);
          ASSERT_EQ(outputs_[batch][g][i], apply(w, tokens.x[i])) << batch << ", rank " << g;
          add_gradient(gradient[tokens.expert[i]], tokens.x[i]);
        }
      }
      for (Index e = 0; e < kExperts; ++e) {
        ASSERT_EQ(gradients_[batch][e], gradient[e]) << "batch " << batch << ", expert " << e;
      }
    }
  }

  std::int64_t copied() const { return copied_; }
  std::int64_t skipped() const { return skipped_; }
  int degraded() const { return degraded_; }

 private:
  /// Returns when all ranks have come.
  static void meet(Exchange& steps) {
    PackedLayout layout;
    layout.num_ranks = kRanks;
    layout.num_counts = 1;
    std::vector<Load> said(kRanks);
    ASSERT_EQ(steps.all_gather(layout, std::vector<Load>{1}, said), ExchangeStatus::kComplete);
  }

  void run_rank(Index g, Index late, const std::shared_ptr<Exchange>& counts, Exchange& steps,
                InProcessWeights& group) {
    Rank own;
    const auto weights = group.member(g, own.buffers());
    PlannerOptions options;
    options.max_tokens = 200;
    options.num_topk = 1;
    options.dynamic_slots = kSlots;
    Planner planner(placement_, g, options, counts);
    const std::vector<Index> all = {0, 1, 2, 3};
    for (int batch = 0; batch < kBatches; ++batch) {
      if (batch % 2 == 0) {  // the optimiser's step
        weights->update(all, [&] {
          for (Index i = 0; i < kOwn; ++i) own.main[i] = weights_of(g * kOwn + i, batch / 2);
        });
      }
      const Tokens tokens(g, batch);
      std::vector<std::int32_t> ids(tokens.expert.size());
      planner.run(tokens.expert, ids);
      if (g == late && batch == 2) std::this_thread::sleep_for(2s);
      if (weights->fetch(planner.last_copies()) != ExchangeStatus::kComplete) {
        planner.run_alone(tokens.expert, ids);
        if (g == 0) ++degraded_;
      }
      compute(g, batch, own, tokens, ids, steps);
      EXPECT_EQ(weights->reduce_gradients(), ExchangeStatus::kComplete);
      for (Index i = 0; i < kOwn; ++i) gradients_[batch][g * kOwn + i] = own.main_gradient[i];
      meet(steps);
    }
    const std::lock_guard lock(mutex_);
    copied_ += weights->stats().copied;
    skipped_ += weights->stats().skipped;
  }

  /// Sends each token to its slot, and computes what came to this rank's slots.
  void compute(Index g, int batch, Rank& own, const Tokens& tokens,
               const std::vector<std::int32_t>& ids, Exchange& steps) {
    Dispatch& dispatch = dispatch_[batch];
    outputs_[batch][g].resize(tokens.x.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const std::lock_guard lock(dispatch.mutex);
      dispatch.of_slot[ids[i]].push_back({g, i, tokens.x[i]});
    }
    meet(steps);
    own.main_gradient = {};
    own.dynamic_gradient = {};
    for (Index i = 0; i < kOwn + kSlots; ++i) {
      const bool is_main = i < kOwn;
      const Matrix& m = is_main ? own.main[i] : own.dynamic[i - kOwn];
      Matrix& gradient = is_main ? own.main_gradient[i] : own.dynamic_gradient[i - kOwn];
      for (const Dispatch::Sent& sent : dispatch.of_slot[g * (kOwn + kSlots) + i]) {
        outputs_[batch][sent.from][sent.token] = apply(m, sent.x);
        add_gradient(gradient, sent.x);
      }
    }
    meet(steps);
  }

  std::vector<Index> homes_;
  Placement placement_;
  std::array<Dispatch, kBatches> dispatch_;
  std::array<std::vector<std::vector<Vector>>, kBatches> outputs_;  // [batch][rank][token]
  std::array<std::vector<Matrix>, kBatches> gradients_;             // [batch][expert]
  std::mutex mutex_;
  std::int64_t copied_ = 0, skipped_ = 0;
  int degraded_ = 0;
};

TEST(WeightsLayer, OutputsAndGradientsAreThoseOfALayerWithoutCopies) {
  Layer layer;
  layer.run(-1);
  layer.check();
  EXPECT_GT(layer.copied(), kBatches);
  EXPECT_EQ(layer.degraded(), 0);
}

TEST(WeightsLayer, ALateRankCostsBalanceAndNothingElse) {
  Layer layer;
  layer.run(3);
  layer.check();
  EXPECT_EQ(layer.degraded(), 1);
  EXPECT_GT(layer.copied(), kBatches);
}

}  // namespace
}  // namespace lplb
