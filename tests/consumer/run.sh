#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: run.sh find_package|pkg_config|add_subdirectory|shared|cxx17 SOURCE_DIR BUILD_DIR CXX
# Builds and runs consumer.cc the way a user would: after an install of BUILD_DIR to a prefix that
# is then moved elsewhere, or from the sources. cxx17: checks what a compiler of C++17 says.
set -euo pipefail
kind=$1 source=$2 build=$3
export CXX=$4
here=$source/tests/consumer
work=$(mktemp -d)
# NOTE: two levels below the sources, as all builds are, so that ccache finds what preset dev has
# compiled: paths are relative to the folder of the build.
tree=$source/build/consumer-$kind
trap 'rm -rf "$work" "$tree"' EXIT

fail() {
  echo "consumer: $1" >&2
  exit 1
}

install_and_move() {
  cmake --install "$build" --prefix "$work/first" > /dev/null
  mv "$work/first" "$work/prefix"
}

check_prefix() {
  local prefix=$work/prefix version
  version=$("$prefix/bin/lplb" --version)
  [[ $version =~ ^lplb\ [0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "lplb --version says: $version"
  if grep -rEi 'fmt|nlohmann' "$prefix"/lib*/cmake "$prefix/include"; then
    fail "private dependencies leak into what is installed, see above"
  fi
  bash -n "$prefix/share/bash-completion/completions/lplb"
  [ -s "$prefix/share/zsh/site-functions/_lplb" ] || fail "no completion for zsh"
  [ -s "$prefix/share/fish/vendor_completions.d/lplb.fish" ] || fail "no completion for fish"
}

case $kind in
  find_package)
    install_and_move
    check_prefix
    cmake -S "$here/find_package" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix"
    # A version that this one is not compatible with is refused.
    sed 's/lplb 0\.1/lplb 99.9/' "$here/find_package/CMakeLists.txt" > "$work/CMakeLists.txt"
    if cmake -S "$work" -B "$work/none" -DCMAKE_PREFIX_PATH="$work/prefix" > /dev/null 2>&1; then
      fail "find_package(lplb 99.9) succeeds"
    fi
    cmake --build "$work/build"
    "$work/build/consumer"
    ;;
  pkg_config)
    install_and_move
    PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name lplb.pc)")
    export PKG_CONFIG_PATH
    # NOTE: unquoted, the flags are several words.
    # shellcheck disable=SC2046
    "$CXX" -std=c++20 -Wall -Wextra -Wpedantic -Werror "$here/consumer.cc" -o "$work/consumer" \
      $(pkg-config --cflags --libs lplb)
    "$work/consumer"
    ;;
  add_subdirectory)
    # ccache does not find the objects of preset dev, because batches have other paths here. So this
    # compiles quickly, as a user's debug build does, and without kernels, which the other two link.
    cmake -S "$here/add_subdirectory" -B "$tree" -G Ninja -DCMAKE_BUILD_TYPE=Debug \
      -DCMAKE_CXX_FLAGS_DEBUG=-O0 -DLPLB_UNITY=ON \
      -DLPLB_SOURCE_DIR="$source" -DLPLB_WARNINGS_AS_ERRORS=ON -DLPLB_CUDA=OFF \
      -DCMAKE_CXX_COMPILER_LAUNCHER="$(command -v ccache || true)"
    CCACHE_DEPEND=1 cmake --build "$tree" --target consumer
    "$tree/consumer"
    ;;
  shared)
    # The objects are those of preset dev but for the kernels, so that ccache has them.
    cmake -S "$source" -B "$tree" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
      -DLPLB_UNITY=ON \
      -DLPLB_CUDA=OFF -DLPLB_WARNINGS_AS_ERRORS=ON -DLPLB_BUILD_TESTS=OFF -DLPLB_BUILD_BENCH=OFF \
      -DLPLB_BUILD_APP=OFF -DLPLB_BUILD_EXAMPLES=OFF -DCMAKE_INSTALL_LIBDIR=lib
    cmake --build "$tree"
    cmake --install "$tree" --prefix "$work/prefix" > /dev/null
    python3 -m doctest "$here/exported_symbols.py"
    python3 "$here/exported_symbols.py" "$work/prefix/lib/liblplb.so" "$work/prefix/include"
    # NOTE: unquoted, the flags are several words.
    # shellcheck disable=SC2046
    "$CXX" -std=c++20 -Wall -Wextra -Wpedantic -Werror "$here/consumer.cc" -o "$work/consumer" \
      $(PKG_CONFIG_PATH=$work/prefix/lib/pkgconfig pkg-config --cflags --libs lplb)
    LD_LIBRARY_PATH=$work/prefix/lib "$work/consumer"
    ;;
  cxx17)
    # Each header says what it needs, and the compiler stops there.
    for header in "$source"/include/lplb/*.h; do
      if "$CXX" -std=c++17 -fsyntax-only -I "$source/include" -x c++ - \
        <<< "#include \"lplb/${header##*/}\"" > "$work/log" 2>&1; then
        fail "${header##*/} compiles as C++17"
      fi
      grep 'error:' "$work/log" > "$work/errors"
      if ! head -n 1 "$work/errors" | grep -q 'LPLB needs C++20: compile with -std=c++20' ||
        [ "$(wc -l < "$work/errors")" != 2 ]; then
        cat "$work/log"
        fail "${header##*/} does not stop at its #error, see above"
      fi
    done
    ;;
  *) fail "$kind: expected find_package, pkg_config, add_subdirectory, shared or cxx17" ;;
esac
