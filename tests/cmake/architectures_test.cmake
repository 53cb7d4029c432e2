# SPDX-License-Identifier: MIT
# usage: cmake -P architectures_test.cmake
# Tests which compute capabilities "native" stands for.
include(${CMAKE_CURRENT_LIST_DIR}/../../cmake/LplbArchitectures.cmake)

# expect(WANTED CARDS KNOWN)
function(expect wanted cards known)
  lplb_native_architectures(found "${cards}" "${known}")
  if(NOT "${found}" STREQUAL "${wanted}")
    message(SEND_ERROR "\"${cards}\" with \"${known}\" gives \"${found}\", expected \"${wanted}\"")
  endif()
endfunction()

set(codes "sm_75\nsm_80\nsm_86\nsm_90\nsm_100\nsm_120\n")
expect("90" "9.0\n" "${codes}")
expect("90" "9.0\n9.0\n9.0\n" "${codes}")
expect("80;86;120" "12.0\n8.6\n8.0\n" "${codes}")
expect("100;120" "12.1\n10.3\n" "${codes}")  # nvcc is older than the GPUs: the machine code runs on them
expect("" "11.0\n" "${codes}")  # no relative
expect("90" "7.5\n9.0\n" "${codes}")  # no kernels before 8.0
expect("" "" "${codes}")
expect("" "Failed to initialize NVML: Driver/library version mismatch\n" "${codes}")
expect("" "[N/A]\n" "${codes}")
expect("" "9.0\n" "")

lplb_capability_text(text "80;90;103;120")
if(NOT text STREQUAL "8.0, 9.0, 10.3, 12.0")
  message(SEND_ERROR "capability text: ${text}")
endif()
