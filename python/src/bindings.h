// SPDX-License-Identifier: MIT
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <initializer_list>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "lplb/lplb.h"

// What the files of this folder share. The package's Python code checks shapes, types and devices.
// It passes arrays of exactly these types, or in hot calls addresses as integers.
namespace lplb::python {

namespace nb = nanobind;
using namespace nb::literals;

template <class T>
using ArrayIn = nb::ndarray<const T, nb::numpy, nb::c_contig, nb::device::cpu>;
template <class T>
using ArrayOut = nb::ndarray<T, nb::numpy>;

template <class T>
std::span<const T> span_of(const ArrayIn<T>& array) {
  return {array.data(), array.size()};
}

// NOTE: a property that returns one needs rv_policy::automatic, or the array would belong to
// `self`.
/// A new array that owns `values`.
template <class T>
ArrayOut<T> to_array(std::vector<T> values, std::initializer_list<std::size_t> shape) {
  auto* const owned = new std::vector<T>(std::move(values));
  const nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return ArrayOut<T>(owned->data(), shape, owner);
}
template <class T>
ArrayOut<T> to_array(std::vector<T> values) {
  const std::size_t size = values.size();
  return to_array(std::move(values), {size});
}

template <class T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

/// Calls `body` without the GIL.
template <class Body>
auto without_gil(Body body) {
  const nb::gil_scoped_release release;
  return body();
}

/// Calls `body` without the GIL, one thread at a time.
template <class Body>
auto locked(std::mutex& mutex, Body body) {
  return without_gil([&] {
    const std::lock_guard lock(mutex);
    return body();
  });
}

/// A dict that Python reads by name.
using Facts = nb::typed<nb::dict, nb::str, nb::any>;

/// The figures that the planners of both backends have.
template <class Stats>
Facts planner_facts(const Stats& s) {
  Facts d;
  d["batches"] = s.batches;
  d["solved"] = s.solved;
  d["optimal"] = s.optimal;
  d["degraded"] = s.degraded;
  d["unplanned"] = s.unplanned;
  d["out_of_range"] = s.out_of_range;
  d["last_lower_bound"] = static_cast<double>(s.last_lower_bound);
  d["last_imbalance"] = s.last_imbalance;
  d["last_max_cost"] = s.last_max_cost;
  d["last_cost_lower_bound"] = s.last_cost_lower_bound;
  return d;
}

void bind_placement(nb::module_& m);
void bind_topology(nb::module_& m);
void bind_cost(nb::module_& m);
void bind_solve(nb::module_& m);
void bind_replicate(nb::module_& m);
void bind_controller(nb::module_& m);
void bind_mapping(nb::module_& m);
void bind_planner(nb::module_& m);
void bind_exchange(nb::module_& m);
void bind_device(nb::module_& m);
void bind_weights(nb::module_& m);
void bind_simulate(nb::module_& m);

}  // namespace lplb::python
