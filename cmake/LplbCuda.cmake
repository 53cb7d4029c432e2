# SPDX-License-Identifier: MIT
# Decides whether and how CUDA is built. LPLB_CUDA=AUTO builds it if nvcc is found, ON fails without
# nvcc, and OFF leaves CUDA out. Sets LPLB_HAVE_CUDA and, if that is off, LPLB_NO_CUDA_REASON.
include_guard()
include(LplbArchitectures)

set(LPLB_CUDA AUTO CACHE STRING "CUDA backend: AUTO (if nvcc is found), ON or OFF")
set_property(CACHE LPLB_CUDA PROPERTY STRINGS AUTO ON OFF)
set(_lplb_all_architectures 80 90 100 120)
set(LPLB_CUDA_ARCHITECTURES "${_lplb_all_architectures}" CACHE STRING
  "Compute capabilities that are compiled, such as 90;100; native: those of this machine's GPUs")

set(LPLB_HAVE_CUDA OFF)
set(LPLB_CUDA_LIBS)
if(LPLB_CUDA STREQUAL "OFF")
  set(LPLB_NO_CUDA_REASON "this build was configured with LPLB_CUDA=OFF")
else()
  # NOTE: nvcc is often installed, but not on PATH.
  find_program(LPLB_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda
    PATH_SUFFIXES bin)
  if(LPLB_NVCC)
    if(NOT CMAKE_CUDA_COMPILER)
      set(CMAKE_CUDA_COMPILER ${LPLB_NVCC} CACHE FILEPATH "nvcc")
    endif()
    set(_whose "as configured")
    if(LPLB_CUDA_ARCHITECTURES STREQUAL "native")
      execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader
        OUTPUT_VARIABLE _cards RESULT_VARIABLE _ ERROR_QUIET)
      execute_process(COMMAND ${LPLB_NVCC} --list-gpu-code OUTPUT_VARIABLE _known)
      lplb_native_architectures(_native "${_cards}" "${_known}")
      set(_whose "of this machine's GPUs")
      if(NOT _native)
        set(_native ${_lplb_all_architectures})
        set(_whose "all, because this machine has no GPU that the kernels run on")
      endif()
      # NOTE: not in the cache, where it would outlive a change of GPUs.
      set(LPLB_CUDA_ARCHITECTURES ${_native})
    endif()
    # Each architecture gets machine code. Later ones than the last use an intermediate form (PTX).
    list(TRANSFORM LPLB_CUDA_ARCHITECTURES APPEND "-real" OUTPUT_VARIABLE _architectures)
    list(GET LPLB_CUDA_ARCHITECTURES -1 _newest)
    set(CMAKE_CUDA_ARCHITECTURES ${_architectures} ${_newest}-virtual CACHE STRING "" FORCE)
    if(LPLB_CCACHE AND PROJECT_IS_TOP_LEVEL AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${LPLB_CCACHE})
    endif()
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(LPLB_HAVE_CUDA ON)
    # A program that links the library without CMake needs these.
    set(LPLB_CUDA_LIBS "-L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -ldl -lrt")
  elseif(LPLB_CUDA STREQUAL "ON")
    message(FATAL_ERROR "LPLB_CUDA=ON, but nvcc was not found (set CUDACXX or CUDA_HOME)")
  else()
    set(LPLB_NO_CUDA_REASON "nvcc was not found when this was built")
  endif()
endif()
if(LPLB_HAVE_CUDA)
  lplb_capability_text(_capabilities "${LPLB_CUDA_ARCHITECTURES}")
  set(LPLB_CUDA_TEXT "kernels for compute capability ${_capabilities} (${_whose})")
else()
  set(LPLB_CUDA_TEXT "no GPU: ${LPLB_NO_CUDA_REASON}")
endif()
message(STATUS "CUDA backend: ${LPLB_HAVE_CUDA}, ${LPLB_CUDA_TEXT}")

# lplb_cuda_host_sources(SOURCE...): adds C++ sources that call the CUDA runtime to the library.
function(lplb_cuda_host_sources)
  target_sources(lplb_cuda_objects PRIVATE ${ARGN})
endfunction()
