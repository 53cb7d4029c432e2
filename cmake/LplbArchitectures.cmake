# SPDX-License-Identifier: MIT
# Which compute capabilities a build is for if LPLB_CUDA_ARCHITECTURES is "native". This file needs no
# project, so that `cmake -P` can test it.
include_guard()

# lplb_native_architectures(VARIABLE CARDS KNOWN): sets VARIABLE to the architectures for the GPUs of a
# machine, or to an empty list. CARDS is what nvidia-smi prints as compute_cap ("9.0", a line for each
# GPU), KNOWN what `nvcc --list-gpu-code` prints ("sm_90"). For a GPU that nvcc does not know, the newest
# one of the same major version is taken, whose machine code the GPU runs. GPUs before 8.0, which have
# no kernels, and those without a relative that nvcc knows are left out.
function(lplb_native_architectures variable cards known)
  string(REGEX MATCHALL "[0-9]+[.][0-9]" cards "${cards}")
  string(REGEX MATCHALL "sm_[0-9]+" known "${known}")
  list(TRANSFORM known REPLACE "sm_" "")
  set(_found)
  foreach(_card ${cards})
    string(REPLACE "." "" _card ${_card})
    math(EXPR _first "${_card} / 10 * 10")
    set(_best)
    foreach(_code ${known})
      if(_code GREATER_EQUAL _first AND _code LESS_EQUAL _card AND (NOT _best OR _code GREATER _best))
        set(_best ${_code})
      endif()
    endforeach()
    if(_card GREATER_EQUAL 80 AND _best)
      list(APPEND _found ${_best})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES _found)
  list(SORT _found COMPARE NATURAL)
  set(${variable} ${_found} PARENT_SCOPE)
endfunction()

# lplb_capability_text(VARIABLE ARCHITECTURES): "90;120" becomes "9.0, 12.0".
function(lplb_capability_text variable architectures)
  list(TRANSFORM architectures REPLACE "^([0-9]+)([0-9])" "\\1.\\2")
  string(REPLACE ";" ", " architectures "${architectures}")
  set(${variable} "${architectures}" PARENT_SCOPE)
endfunction()
