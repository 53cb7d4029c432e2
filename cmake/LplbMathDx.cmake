# SPDX-License-Identifier: MIT
# NVIDIA MathDx for the CUDA kernel of solver ipm. The kernel uses cuSolverDx through libmathdx, which
# writes the device functions as LTO IR at build time; this needs no GPU. (The headers of the package
# nvidia-mathdx would not be enough, because they cannot be linked.) LPLB_MATHDX=AUTO builds the kernel
# if CUDA is built and libmathdx is found, ON fails without libmathdx, and OFF leaves the kernel out.
# Sets LPLB_HAVE_MATHDX and LPLB_MATHDX_VERSION or LPLB_NO_MATHDX_REASON. Defines lplb_ipm_cubins().
include_guard()

set(LPLB_MATHDX AUTO CACHE STRING "CUDA kernel of solver ipm: AUTO (if libmathdx is found), ON or OFF")
set_property(CACHE LPLB_MATHDX PROPERTY STRINGS AUTO ON OFF)
set(LPLB_MATHDX_ROOT "" CACHE PATH "Where libmathdx is (lib/libmathdx.so.0); default: .venv")
set(LPLB_IPM_ARCHITECTURES "90;100" CACHE STRING
  "Compute capabilities of the kernel of solver ipm, 80 and newer; each takes half a minute of a core")
# rows:threads. They must equal kIpmSizes in src/solve/ipm/kernel_args.h.
set(LPLB_IPM_SIZES 8:32 16:64 32:128 64:128 144:512)

# _lplb_find_first(VARIABLE NAME FOLDER...): sets VARIABLE to the first file NAME in these folders.
function(_lplb_find_first variable name)
  set(${variable} "" PARENT_SCOPE)
  foreach(_folder ${ARGN})
    if(EXISTS ${_folder}/${name})
      set(${variable} ${_folder}/${name} PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

function(_lplb_find_mathdx)
  set(LPLB_HAVE_MATHDX OFF PARENT_SCOPE)
  if(LPLB_MATHDX STREQUAL "OFF")
    set(LPLB_NO_MATHDX_REASON "this build was configured with LPLB_MATHDX=OFF" PARENT_SCOPE)
    return()
  elseif(NOT LPLB_HAVE_CUDA)
    set(LPLB_NO_MATHDX_REASON "CUDA is not in this build: ${LPLB_NO_CUDA_REASON}" PARENT_SCOPE)
    return()
  elseif(CUDAToolkit_VERSION_MAJOR LESS 13)
    set(LPLB_NO_MATHDX_REASON
      "it needs CUDA 13, this was built with ${CUDAToolkit_VERSION}" PARENT_SCOPE)
    return()
  endif()
  file(GLOB _packages ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/nvidia/cu13/lib)
  set(_root "")
  if(LPLB_MATHDX_ROOT)
    set(_root ${LPLB_MATHDX_ROOT} ${LPLB_MATHDX_ROOT}/lib)
  endif()
  set(_toolkit ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_BIN_DIR}/../lib64)
  _lplb_find_first(_mathdx libmathdx.so.0 ${_root} ${_packages})
  _lplb_find_first(_nvrtc libnvrtc.so.${CUDAToolkit_VERSION_MAJOR} ${_toolkit} ${_root} ${_packages})
  _lplb_find_first(_nvjitlink libnvJitLink.so.${CUDAToolkit_VERSION_MAJOR}
    ${_toolkit} ${_root} ${_packages})
  find_program(LPLB_FATBINARY fatbinary HINTS ${CUDAToolkit_BIN_DIR})
  find_package(Python3 COMPONENTS Interpreter QUIET)
  foreach(_needed "_mathdx:libmathdx (package nvidia-libmathdx-cu13, scripts/setup installs it)"
      "_nvrtc:libnvrtc" "_nvjitlink:libnvJitLink" "LPLB_FATBINARY:fatbinary of the CUDA toolkit"
      "Python3_EXECUTABLE:python3")
    string(REGEX MATCH "^([^:]+):(.*)" _ "${_needed}")
    if(NOT ${CMAKE_MATCH_1})
      set(LPLB_NO_MATHDX_REASON "${CMAKE_MATCH_2} was not found when this was built" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(_functions ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/cmake/mathdx_functions.py
    --mathdx ${_mathdx} --nvrtc ${_nvrtc})
  execute_process(COMMAND ${_functions} --version
    RESULT_VARIABLE _status OUTPUT_VARIABLE _version ERROR_VARIABLE _error
    OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(_status)
    string(REGEX REPLACE "[\n\"\\]+" " " _error "${_error}")
    set(LPLB_NO_MATHDX_REASON "${_mathdx} cannot be used: ${_error}" PARENT_SCOPE)
    return()
  endif()
  set(LPLB_HAVE_MATHDX ON PARENT_SCOPE)
  set(LPLB_MATHDX_VERSION ${_version} PARENT_SCOPE)
  set(LPLB_MATHDX_FUNCTIONS ${_functions} PARENT_SCOPE)
  set(LPLB_MATHDX_LIBRARY ${_mathdx} PARENT_SCOPE)
  set(LPLB_MATHDX_LINKER ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/cmake/link_cubin.py
    --nvjitlink ${_nvjitlink} --fatbinary ${LPLB_FATBINARY} PARENT_SCOPE)
endfunction()

set(LPLB_NO_MATHDX_REASON "")
set(LPLB_MATHDX_VERSION "")
_lplb_find_mathdx()
if(LPLB_MATHDX STREQUAL "ON" AND NOT LPLB_HAVE_MATHDX)
  message(FATAL_ERROR "LPLB_MATHDX=ON, but ${LPLB_NO_MATHDX_REASON}")
endif()
message(STATUS
  "MathDx (CUDA kernel of solver ipm): ${LPLB_HAVE_MATHDX} ${LPLB_MATHDX_VERSION}${LPLB_NO_MATHDX_REASON}")

# lplb_ipm_cubins(KERNEL HEADER...): compiles the kernel for each size, links it with the functions of
# that size, and embeds the results in cubins.cc of the calling folder.
function(lplb_ipm_cubins kernel)
  set(_out ${PROJECT_BINARY_DIR}/ipm)
  set(_outputs ${_out}/cusolverdx.fatbin)
  set(_warnings "")
  if(LPLB_WARNINGS_AS_ERRORS)
    set(_warnings -Werror=all-warnings)
  endif()
  string(REPLACE ";" "," _architectures "${LPLB_IPM_ARCHITECTURES}")
  foreach(_size ${LPLB_IPM_SIZES})
    string(REGEX MATCH "([0-9]+):([0-9]+)" _ ${_size})
    set(_rows ${CMAKE_MATCH_1})
    set(_threads ${CMAKE_MATCH_2})
    set(_functions ${_out}/potrf_${_rows}.ltoir ${_out}/potrs_${_rows}.ltoir)
    list(APPEND _outputs ${_functions})
    add_custom_command(OUTPUT ${_out}/kernel_${_rows}.fatbin
      COMMAND ${CMAKE_CUDA_COMPILER} -std=c++20 -rdc=true -fatbin --expt-relaxed-constexpr
        -gencode arch=compute_80,code=lto_80 ${_warnings} -DLPLB_IPM_ROWS=${_rows}
        -DLPLB_IPM_THREADS=${_threads} -I${PROJECT_SOURCE_DIR}/src -I${PROJECT_SOURCE_DIR}/include
        -o ${_out}/kernel_${_rows}.fatbin ${CMAKE_CURRENT_SOURCE_DIR}/${kernel}
      DEPENDS ${kernel} ${ARGN} VERBATIM)
    add_custom_command(OUTPUT ${_out}/ipm_${_rows}.fatbin
      COMMAND ${LPLB_MATHDX_LINKER} --archs ${_architectures} --out ${_out}/ipm_${_rows}.fatbin
        ${_out}/kernel_${_rows}.fatbin ${_functions} ${_out}/cusolverdx.fatbin
      DEPENDS ${_out}/kernel_${_rows}.fatbin ${_functions} ${_out}/cusolverdx.fatbin
        ${PROJECT_SOURCE_DIR}/cmake/link_cubin.py
      COMMENT "Linking the kernel of solver ipm for ${_rows} ranks" VERBATIM)
    list(APPEND _cubins ${_out}/ipm_${_rows}.fatbin)
  endforeach()
  add_custom_command(OUTPUT ${_outputs}
    COMMAND ${LPLB_MATHDX_FUNCTIONS} --out ${_out} ${LPLB_IPM_SIZES}
    DEPENDS ${PROJECT_SOURCE_DIR}/cmake/mathdx_functions.py ${LPLB_MATHDX_LIBRARY}
    COMMENT "Writing the functions of cuSolverDx" VERBATIM)
  set_source_files_properties(cubins.cc TARGET_DIRECTORY lplb_objects PROPERTIES
    OBJECT_DEPENDS "${_cubins}" COMPILE_DEFINITIONS "LPLB_IPM_CUBINS=\"${_out}\"")
  add_custom_target(lplb_ipm_cubins DEPENDS ${_cubins})
  add_dependencies(lplb_objects lplb_ipm_cubins)
  target_sources(lplb_objects PRIVATE cubins.cc)
endfunction()
