// SPDX-License-Identifier: MIT
#include <benchmark/benchmark.h>
#include <glpk.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "bench/workloads.h"
#include "lplb/solver.h"

// GLPK's simplex on the instances of the split benchmarks. It solves only the linear program, with
// T in fractions of a token, which is less work than our solvers do. METHOD.md describes the two
// forms.
namespace lplb::bench {
namespace {

enum class Form {
  kPlain,  ///< a column for every replica and an equation for every expert; solved from scratch
  kTuned,  ///< only tokens that can move, one column less for each expert; keeps the previous basis
};

// GLPK numbers rows and columns from 1. Row g + 1 says T >= load of rank g. Column 1 is T.
class GlpkSplit {
 public:
  GlpkSplit(const Placement& placement, Form form)
      : form_(form), num_ranks_(placement.num_ranks), lp_(glp_create_prob(), glp_delete_prob) {
    glp_set_obj_dir(lp_.get(), GLP_MIN);
    glp_add_rows(lp_.get(), num_ranks_);
    add_column(1.0);
    for (int g = 1; g <= num_ranks_; ++g) add_entry(g, 1, 1.0);
    for (Index e = 0; e < placement.num_logical_experts; ++e) {
      std::vector<Index> ranks;
      for (const Index p : placement.replicas(e)) ranks.push_back(placement.rank_of(p));
      ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
      add_expert(ranks);
    }
    glp_load_matrix(lp_.get(), static_cast<int>(value_.size()) - 1, row_.data(), column_.data(),
                    value_.data());
    glp_init_smcp(&options_);
    options_.msg_lev = GLP_MSG_OFF;
    if (form == Form::kPlain) {
      options_.presolve = GLP_ON;
    } else {
      options_.meth = GLP_DUAL;
      options_.pricing = GLP_PT_STD;
    }
  }

  void set_load(const std::vector<Load>& load) {
    std::vector<double> carried(num_ranks_, 0.0);
    for (std::size_t e = 0; e < load.size(); ++e) {
      const auto tokens = static_cast<double>(load[e]);
      const Expert& expert = experts_[e];
      if (form_ == Form::kPlain) {
        glp_set_row_bnds(lp_.get(), expert.row, GLP_FX, tokens, tokens);
        continue;
      }
      carried[expert.last_rank] += tokens;
      if (expert.row != 0) glp_set_row_bnds(lp_.get(), expert.row, GLP_UP, 0.0, tokens);
      if (expert.column != 0) {
        glp_set_col_bnds(lp_.get(), expert.column, load[e] > 0 ? GLP_DB : GLP_FX, 0.0, tokens);
      }
    }
    for (int g = 0; g < num_ranks_; ++g) {
      glp_set_row_bnds(lp_.get(), g + 1, GLP_LO, carried[g], 0.0);
    }
  }

  // Returns the smallest T, or NaN if the solver failed.
  double run() {
    if (form_ == Form::kPlain) glp_std_basis(lp_.get());
    const int failed = glp_simplex(lp_.get(), &options_);
    const bool optimal = failed == 0 && glp_get_status(lp_.get()) == GLP_OPT;
    return optimal ? glp_get_obj_val(lp_.get()) : std::nan("");
  }

 private:
  struct Expert {
    Index last_rank = 0;
    int row = 0;     // its equation; kTuned, more than two ranks: its upper bound; else 0
    int column = 0;  // kTuned with two ranks: its only column; else 0
  };

  int add_column(double cost) {
    const int column = glp_add_cols(lp_.get(), 1);
    glp_set_col_bnds(lp_.get(), column, GLP_LO, 0.0, 0.0);
    glp_set_obj_coef(lp_.get(), column, cost);
    return column;
  }

  void add_entry(int row, int column, double value) {
    row_.push_back(row);
    column_.push_back(column);
    value_.push_back(value);
  }

  void add_expert(const std::vector<Index>& ranks) {
    Expert expert;
    expert.last_rank = ranks.back();
    const bool plain = form_ == Form::kPlain;
    if (plain || ranks.size() > 2) expert.row = glp_add_rows(lp_.get(), 1);
    const std::size_t columns = plain ? ranks.size() : ranks.size() - 1;
    for (std::size_t i = 0; i < columns; ++i) {
      const int column = add_column(0.0);
      add_entry(ranks[i] + 1, column, -1.0);
      if (!plain) add_entry(expert.last_rank + 1, column, 1.0);
      if (expert.row != 0) add_entry(expert.row, column, 1.0);
      if (!plain && ranks.size() == 2) expert.column = column;
    }
    experts_.push_back(expert);
  }

  Form form_;
  int num_ranks_;
  std::unique_ptr<glp_prob, void (*)(glp_prob*)> lp_;
  glp_smcp options_;
  std::vector<Expert> experts_;
  std::vector<int> row_ = {0};
  std::vector<int> column_ = {0};
  std::vector<double> value_ = {0.0};
};

// glpk/WORKLOAD/FORM: the time of glp_simplex(), without the time to set the batch's bounds.
void solve_by_glpk(benchmark::State& state, const std::string& name, Form form) {
  const testing::Workload& w = workload(name);
  GlpkSplit glpk(w.placement, form);
  const SplitProblem problem(w.placement);
  Workspace workspace;
  Split split;
  for (const auto& load : w.loads) {
    glpk.set_load(load);
    solve(problem, load, split, workspace);
    // For whole tokens T is rounded up. The slack of 1e-3 is safe: T is a fraction whose
    // denominator is at most num_ranks.
    if (std::ceil(glpk.run() - 1e-3) != split.max_load) {
      return state.SkipWithError("GLPK's optimum is another");
    }
  }
  std::size_t i = 0;
  for (auto _ : state) {
    state.PauseTiming();
    glpk.set_load(w.loads[i]);
    state.ResumeTiming();
    benchmark::DoNotOptimize(glpk.run());
    i = (i + 1) % w.loads.size();
  }
  state.SetItemsProcessed(state.iterations());
}

bool register_all() {
  benchmark::AddCustomContext("glpk", glp_version());
  for (const std::string& name : testing::workload_names()) {
    benchmark::RegisterBenchmark(("glpk/" + name + "/plain").c_str(), solve_by_glpk, name,
                                 Form::kPlain);
    benchmark::RegisterBenchmark(("glpk/" + name + "/tuned").c_str(), solve_by_glpk, name,
                                 Form::kTuned);
  }
  return true;
}

[[maybe_unused]] const bool registered = register_all();

}  // namespace
}  // namespace lplb::bench
