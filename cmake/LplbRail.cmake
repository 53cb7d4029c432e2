# SPDX-License-Identifier: MIT
# Finds what the exchanges beyond one NVLink domain (include/lplb/rail_exchange.h) need. Each one is
# a library of its own: lplb_nvshmem needs NVSHMEM's device code, lplb_gin needs NCCL's headers.
# LPLB_NVSHMEM and LPLB_GIN: AUTO builds a library if CUDA is built and what it needs is found, ON fails
# otherwise, and OFF leaves it out. Sets LPLB_HAVE_NVSHMEM and LPLB_HAVE_GIN.
include_guard()

set(LPLB_NVSHMEM AUTO CACHE STRING "Library lplb_nvshmem: AUTO (if NVSHMEM is found), ON or OFF")
set(LPLB_GIN AUTO CACHE STRING "Library lplb_gin: AUTO (if NCCL's headers are found), ON or OFF")
set_property(CACHE LPLB_NVSHMEM LPLB_GIN PROPERTY STRINGS AUTO ON OFF)
set(LPLB_NVSHMEM_ROOT "" CACHE PATH "Where NVSHMEM is (include/, lib/); default: .venv, the system")
set(LPLB_NCCL_ROOT "" CACHE PATH "Where NCCL is (include/); default: the CUDA toolkit, the system")

# _lplb_decide(NAME WHAT MISSING): decides whether NAME is built. MISSING is empty if it can be built.
function(_lplb_decide name what missing)
  set(LPLB_HAVE_${name} OFF PARENT_SCOPE)
  if(LPLB_${name} STREQUAL "OFF")
    set(missing "this build was configured with LPLB_${name}=OFF")
  elseif(NOT LPLB_HAVE_CUDA)
    set(missing "CUDA is not in this build")
  elseif(BUILD_SHARED_LIBS)
    set(missing "it needs the library's internals, which a shared build hides")
  endif()
  if(missing STREQUAL "")
    set(LPLB_HAVE_${name} ON PARENT_SCOPE)
    set(missing ON)
  elseif(LPLB_${name} STREQUAL "ON")
    message(FATAL_ERROR "LPLB_${name}=ON, but ${missing}")
  endif()
  message(STATUS "${what}: ${missing}")
endfunction()

file(GLOB _packages ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/nvidia/nvshmem)
find_path(LPLB_NVSHMEM_INCLUDE nvshmemx.h HINTS ${LPLB_NVSHMEM_ROOT} ${_packages}
  PATH_SUFFIXES include)
find_library(LPLB_NVSHMEM_DEVICE nvshmem_device HINTS ${LPLB_NVSHMEM_ROOT} ${_packages}
  PATH_SUFFIXES lib lib64)
find_file(LPLB_NVSHMEM_HOST NAMES libnvshmem_host.so.3 HINTS ${LPLB_NVSHMEM_ROOT} ${_packages}
  PATH_SUFFIXES lib lib64)
find_path(LPLB_NCCL_INCLUDE nccl_device/gin.h HINTS ${LPLB_NCCL_ROOT} ${CUDAToolkit_INCLUDE_DIRS}
  PATH_SUFFIXES include)
mark_as_advanced(LPLB_NVSHMEM_INCLUDE LPLB_NVSHMEM_DEVICE LPLB_NVSHMEM_HOST LPLB_NCCL_INCLUDE)

set(_missing "")
if(NOT LPLB_NVSHMEM_INCLUDE OR NOT LPLB_NVSHMEM_DEVICE OR NOT LPLB_NVSHMEM_HOST)
  set(_missing "NVSHMEM 3 was not found (set LPLB_NVSHMEM_ROOT)")
endif()
_lplb_decide(NVSHMEM "Exchange by NVSHMEM's puts" "${_missing}")
set(_missing "")
if(NOT LPLB_NCCL_INCLUDE)
  set(_missing "nccl_device/gin.h of NCCL 2.28.7 or newer was not found (set LPLB_NCCL_ROOT)")
endif()
_lplb_decide(GIN "Exchange by NCCL's GPU-initiated networking" "${_missing}")

# lplb_add_rail(NAME SOURCE...): adds a library that is linked in addition to lplb.
function(lplb_add_rail name)
  add_library(${name} STATIC ${ARGN})
  if(NOT PROJECT_IS_TOP_LEVEL)
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
  endif()
  lplb_configure_target(${name})
  string(REPLACE lplb_ "" _alias ${name})
  add_library(lplb::${_alias} ALIAS ${name})
  set_target_properties(${name} PROPERTIES EXPORT_NAME ${_alias} CUDA_RUNTIME_LIBRARY Static)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_include_directories(${name} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(${name} PUBLIC lplb PRIVATE $<BUILD_INTERFACE:${LPLB_FMT}>)
endfunction()
