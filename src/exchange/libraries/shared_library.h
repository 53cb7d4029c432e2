// SPDX-License-Identifier: MIT
#pragma once

#include <dlfcn.h>

#include <string>

#include "lplb/error.h"

namespace lplb::exchange {

/// A library that is looked up at run time. If the process has already loaded the library, that one
/// is used. It is never unloaded.
class SharedLibrary {
 public:
  explicit SharedLibrary(const char* name) : name_(name) {
    handle_ = dlopen(name, RTLD_NOW | RTLD_NOLOAD);
    if (handle_ == nullptr) handle_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle_ == nullptr) {
      const char* const why = dlerror();
      missing_ = why != nullptr ? why : "it cannot be loaded";
    }
  }

  /// Why the library cannot be loaded; empty if it is loaded.
  const std::string& missing() const { return missing_; }

  /// Returns the function `symbol`. Throws ExchangeError if the library or the function is missing.
  template <class Function>
  Function* get(const char* symbol) const {
    if (!missing_.empty()) throw ExchangeError(missing_);
    auto* const found = find<Function>(symbol);
    if (found == nullptr) throw ExchangeError(name_ + " has no " + symbol + "()");
    return found;
  }
  /// Returns the function `symbol`, or null if the library or the function is missing.
  template <class Function>
  Function* find(const char* symbol) const {
    if (handle_ == nullptr) return nullptr;
    return reinterpret_cast<Function*>(dlsym(handle_, symbol));
  }

 private:
  std::string name_;
  void* handle_ = nullptr;
  std::string missing_;
};

}  // namespace lplb::exchange
