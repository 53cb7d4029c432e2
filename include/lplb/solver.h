// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lplb/backend.h"
#include "lplb/types.h"

namespace lplb {

/// The algorithms. kCut and kFlow return an optimal split; which of the optima is its own, and the
/// same on every machine, thread count and backend. kIpm comes as near as its tolerance and the
/// rounding to whole tokens let it, and says how near.
enum class Solver {
  kAuto,  ///< kCut up to kMaxCutRanks ranks, else kFlow
  kCut,   ///< cut slacks over all sets of ranks; up to kMaxCutRanks ranks
  kFlow,  ///< water-filling sweeps, then waves of a preflow; any size
  kIpm,   ///< interior point on the linear program; up to kMaxIpmRanks ranks; never by kAuto
};

inline constexpr Index kMaxCutRanks = 8;
inline constexpr Index kMaxIpmRanks = 256;

/// "auto", "cut", "flow", "ipm" and back. Throws ArgumentError for any other name.
Solver parse_solver(std::string_view name);
const char* solver_name(Solver solver);

enum class SolveStatus {
  kOptimal,  ///< max_load == lower_bound, proven by bottleneck_ranks
  kBounded,  ///< a step limit or a tolerance was met: the split is feasible, the bound holds, and
             ///< a gap remains
};

const char* status_name(SolveStatus status);

struct SolveOptions {
  Solver solver = Solver::kAuto;
  /// kFlow only. The most waves and raised bounds together; < 0: no limit (on the CPU), or one that
  /// no batch is known to reach (kCuda: 64 + 16 * num_ranks).
  std::int64_t max_steps = -1;
  /// kCuda: on the current device, with the same result. Loads whose sum passes 2^31 - 1, unequal
  /// speeds and placements that no block of threads can hold are solved on the CPU all the same:
  /// Split::backend says where.
  Backend backend = Backend::kCpu;

  // kIpm only.
  double tolerance = 1e-6;  ///< stop at this gap between T and its bound, relative to T
  int max_iterations = 60;
  /// Start from the shares and prices that the workspace's last kIpm solve ended with, if its sizes
  /// were the same. The result then depends on what was solved before; solve_batch() never does.
  bool warm_start = false;
};

/// A level of load: what `tokens` cost on `rank`. Exact where the double beside it is rounded.
struct Level {
  Load tokens = 0;
  Index rank = 0;
};

/// A split of one batch and the proof of its quality. Reused from call to call it keeps its memory.
struct Split {
  SolveStatus status = SolveStatus::kOptimal;
  Solver solver = Solver::kAuto;        ///< the one that ran: never kAuto
  Backend backend = Backend::kCpu;      ///< where it ran
  double max_load = 0;                  ///< T: max over ranks of load / speed
  double lower_bound = 0;               ///< no integer split has a smaller T; proven by the set:
  std::vector<Index> bottleneck_ranks;  ///< S, ascending: the experts whose live replicas all lie
                                        ///< in S cannot be taken by S below lower_bound
  Level max_level;                      ///< max_load, exactly: a rank that carries it
  Level bound_level;                    ///< lower_bound, exactly
  std::vector<Load> rank_load;          ///< [num_ranks]
  std::vector<Load> physical_load;      ///< [num_physical]: tokens each replica takes
  std::int64_t steps = 0;               ///< kFlow: waves and raised bounds; kIpm: iterations
};

/// What a solver derives from a placement, once per placement and off the hot path: the replicated
/// experts, their distinct live ranks, and the colours in which they are levelled together.
/// Immutable while solves run, so that threads can share it.
class SplitProblem {
 public:
  explicit SplitProblem(const Placement& placement);
  ~SplitProblem();
  SplitProblem(SplitProblem&&) noexcept;
  SplitProblem& operator=(SplitProblem&&) noexcept;

  /// Takes another placement with the same ranks. Allocates only where it outgrows the old ones.
  void assign(const Placement& placement);

  Index num_ranks() const;
  Index num_logical() const;
  Index num_physical() const;

  struct Tables;
  const Tables& tables() const { return *tables_; }

 private:
  std::unique_ptr<Tables> tables_;
};

/// A solver's scratch memory: one a thread. Grows to the largest problem it has seen.
class Workspace {
 public:
  Workspace();
  ~Workspace();
  Workspace(Workspace&&) noexcept;
  Workspace& operator=(Workspace&&) noexcept;

  struct Buffers;
  Buffers& buffers() { return *buffers_; }
  struct DeviceDeleter;

 private:
  std::unique_ptr<Buffers> buffers_;
};

/// Splits `load` [num_logical] over the replicas so that max_g rank_load[g] / speed_g is least, in
/// whole tokens, with a proof. No allocation once `split` and `workspace` have seen the size.
/// Throws ArgumentError where a load is negative, the sum passes 2^63 - 1, `load` has another
/// length, or the named solver cannot take the problem (kCut beyond kMaxCutRanks): a forced solver
/// is never replaced. Throws CudaError where kCuda cannot be used. A few microseconds at 8 ranks x
/// 2 redundants; see bench/RESULTS.md.
void solve(const SplitProblem& problem, std::span<const Load> load, Split& split,
           Workspace& workspace, const SolveOptions& options = {});

/// The same in one call, for a single use.
Split solve(const Placement& placement, std::span<const Load> load,
            const SolveOptions& options = {});

/// One batch's outcome in a batched solve.
struct SplitSummary {
  SolveStatus status;
  double max_load;
  double lower_bound;
  Backend backend = Backend::kCpu;  ///< where it ran
};

/// Solves `summary.size()` batches of one placement, `num_threads` at a time. `loads`
/// [num_batches, num_logical]; `physical_loads` [num_batches, num_physical] is written. Equal, bit
/// for bit, to solving them one by one. Throws what solve() throws, for the first bad batch.
void solve_batch(const SplitProblem& problem, std::span<const Load> loads,
                 std::span<Load> physical_loads, std::span<SplitSummary> summary, int num_threads,
                 const SolveOptions& options = {});

/// The same on the calling thread, with memory that the workspace keeps from call to call: for many
/// calls of few batches. On kCuda one launch for up to 16384 batches, on a stream of the
/// workspace's own.
void solve_batch(const SplitProblem& problem, std::span<const Load> loads,
                 std::span<Load> physical_loads, std::span<SplitSummary> summary,
                 Workspace& workspace, const SolveOptions& options = {});

/// Each expert's tokens divided evenly over its live replicas, whatever the ranks carry: what EPLB
/// and its users do. The remainder of expert e goes to its replicas from the (e % count)-th on.
/// `physical_load` [num_physical] is written.
void split_evenly(const Placement& placement, std::span<const Load> load,
                  std::span<Load> physical_load);

/// Checks a split from first principles, with code that shares nothing with the solvers: every
/// expert's tokens are all taken, by its live replicas alone; rank_load and max_load follow;
/// lower_bound is proven by bottleneck_ranks; kOptimal means that the two meet.
/// Returns an empty string, or what is wrong.
std::string verify_split(const Placement& placement, std::span<const Load> load,
                         const Split& split);

}  // namespace lplb
