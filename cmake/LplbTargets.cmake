# SPDX-License-Identifier: MIT
# Functions that make this project's targets, one for each kind of target.
include_guard()

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES AND PROJECT_IS_TOP_LEVEL)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(LPLB_CCACHE ccache)
  if(LPLB_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${LPLB_CCACHE})
  endif()
endif()

# Sets the flags of a target of this project. None of them reaches a user of the library.
function(lplb_configure_target target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON
    CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  # NOTE: -ffp-contract=off is needed, because the doubles of the sweeps must be equal on all backends.
  set(_warnings -Wall -Wextra -Wshadow -Wno-missing-field-initializers)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:${_warnings};-Wpedantic;-Wconversion;-Wno-sign-conversion;-ffp-contract=off>
    $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${LPLB_WARNINGS_AS_ERRORS}>>:-Werror>)
  if(LPLB_HAVE_CUDA)
    string(JOIN "," _host_warnings ${_warnings})
    target_compile_options(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:CUDA>:--std=c++20;-lineinfo;--fmad=false;--expt-relaxed-constexpr;-Xcompiler=${_host_warnings}>
      $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${LPLB_WARNINGS_AS_ERRORS}>>:-Werror=all-warnings;-Xcompiler=-Werror>)
  endif()
endfunction()

# Code around the library that runs only once is compiled quickly, not for speed.
set(LPLB_QUICK_OPTION -O1 CACHE STRING "Optimisation of tests and of the command's own code")
mark_as_advanced(LPLB_QUICK_OPTION)
function(lplb_compile_quickly target)
  target_compile_options(${target} PRIVATE
    $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:Release,RelWithDebInfo>>:${LPLB_QUICK_OPTION}>)
endfunction()

# lplb_compile_in_batches(TARGET): compiles up to ten sources of a target as one, because the headers take
# most of the time: then they are read once a batch. CMake leaves out sources with options of their own.
# nvcc compiles kernels in parallel instead, and a file that replaces operator new is no part of a batch,
# nor is one that CMake writes, whose folder is another in each build. Stand-ins for kernels come last, so
# that builds with and without CUDA have the same batches, and ccache finds them.
function(lplb_compile_in_batches target)
  get_target_property(_sources ${target} SOURCES)
  set(_alone ${_sources})
  list(FILTER _alone INCLUDE REGEX "[.]cu$|/(allocations|assets)[.]cc$")
  if(_alone)
    set_source_files_properties(${_alone} TARGET_DIRECTORY ${target}
      PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  endif()
  set(_stand_ins ${_sources})
  list(FILTER _stand_ins INCLUDE REGEX "none[.]cc$")
  list(FILTER _sources EXCLUDE REGEX "none[.]cc$")
  set_target_properties(${target} PROPERTIES SOURCES "${_sources};${_stand_ins}"
    UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 10
    UNITY_BUILD_CODE_BEFORE_INCLUDE "// NOLINTNEXTLINE(bugprone-suspicious-include)")
  # A State of types that the file keeps to itself is no mistake: g++ takes it for one in a header.
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>)
endfunction()

# NOTE: fmt::fmt halves the compile time of many files, but then what is installed needs fmt.
set(LPLB_FMT fmt::fmt-header-only CACHE STRING "fmt's target: fmt::fmt only in builds for tests")
mark_as_advanced(LPLB_FMT)

# lplb_add_test(NAME SOURCE... [BUSY] [KERNELS] [LIBS lib...] [LABELS label...]): adds a GoogleTest program.
# src/ is on its include path, so that a test can be in the folder of what it tests. BUSY: its own code
# takes most of its time, as emulated kernels do, so builds with sanitizers compile it at -O1 too. KERNELS:
# it includes sources of kernels, whose pragmas a C++ compiler warns about.
function(lplb_add_test name)
  if(NOT LPLB_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(arg "BUSY;KERNELS" "" "LIBS;LABELS" ${ARGN})
  add_executable(${name} ${arg_UNPARSED_ARGUMENTS})
  lplb_configure_target(${name})
  if(arg_BUSY)
    set(LPLB_QUICK_OPTION -O1)
  endif()
  lplb_compile_quickly(${name})
  if(arg_KERNELS)
    target_compile_options(${name} PRIVATE -Wno-unknown-pragmas -Wno-pass-failed)
  endif()
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE LPLB_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE lplb::internals GTest::gmock GTest::gtest_main
    ${LPLB_FMT} nlohmann_json::nlohmann_json ${arg_LIBS})
  if(LPLB_UNITY_TESTS)
    lplb_compile_in_batches(${name})
    # Names of tests often hide one of another file, which is no mistake.
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wno-shadow>)
  endif()
  if(LPLB_CCACHE)
    # No build in another folder takes these objects, so ccache need not preprocess the sources.
    set_target_properties(${name} PROPERTIES
      CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND};-E;env;CCACHE_DEPEND=1;${LPLB_CCACHE}")
  endif()
  include(GoogleTest)
  # Tests with "cuda" or "Cuda." in their names need a GPU. Without one they are skipped, and a build
  # without CUDA has none of them.
  set(_gpu "*cuda*:*Cuda.*")
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 TEST_FILTER "-${_gpu}"
    PROPERTIES TIMEOUT 300 LABELS "${arg_LABELS}")
  if(NOT LPLB_HAVE_CUDA)
    return()
  endif()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 TEST_FILTER "${_gpu}-*multi_cuda*"
    TEST_LIST ${name}_gpu PROPERTIES TIMEOUT 300 LABELS gpu)
  # Tests with "multi_cuda" in their names need two GPUs.
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 TEST_FILTER "*multi_cuda*"
    TEST_LIST ${name}_multi_gpu PROPERTIES TIMEOUT 300 LABELS multi-gpu)
endfunction()
