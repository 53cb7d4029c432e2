// SPDX-License-Identifier: MIT
#include <cstdlib>
#include <cstring>
#include <exception>

#include "bindings.h"
#include "io/system_error.h"

namespace {

/// Raises an OSError with errno and filename, which Python makes a FileNotFoundError,
/// PermissionError and so on.
void raise_system_error(const lplb::io::SystemError& e) {
  const nanobind::tuple arguments =
      nanobind::make_tuple(e.error_number(), std::strerror(e.error_number()), e.path());
  PyErr_SetObject(PyExc_OSError, arguments.ptr());
}

/// ArgumentError becomes ValueError, FileError OSError, any other lplb::Error RuntimeError.
void translate(const std::exception_ptr& error, void*) {
  try {
    std::rethrow_exception(error);
  } catch (const lplb::ArgumentError& e) {
    PyErr_SetString(PyExc_ValueError, e.what());
  } catch (const lplb::io::SystemError& e) {
    raise_system_error(e);
  } catch (const lplb::FileError& e) {
    PyErr_SetString(PyExc_OSError, e.what());
  } catch (const lplb::Error& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  }
}

}  // namespace

NB_MODULE(_lplb, m) {
  namespace python = lplb::python;
  // NOTE: objects that a module or a traceback still holds when Python ends are no leak, but
  // nanobind would list them on stderr. Tests want the list.
  nanobind::set_leak_warnings(std::getenv("LPLB_LEAK_WARNINGS") != nullptr);
  nanobind::register_exception_translator(translate);
  m.def("version", &lplb::version);
  python::bind_placement(m);
  python::bind_topology(m);
  python::bind_cost(m);
  python::bind_solve(m);
  python::bind_replicate(m);
  python::bind_controller(m);
  python::bind_mapping(m);
  python::bind_planner(m);
  python::bind_exchange(m);
  python::bind_device(m);
  python::bind_weights(m);
  python::bind_simulate(m);
}
