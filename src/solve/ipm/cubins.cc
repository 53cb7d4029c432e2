// SPDX-License-Identifier: MIT
#include "solve/ipm/cubins.h"

// The machine code of kernel.cu, as the build linked it: a fatbin for each size. NOTE: the compiler
// does not report what .incbin reads as a dependency. LplbMathDx.cmake tells CMake, and ccache does
// not cache such files.
#define LPLB_IPM_CUBIN(ROWS)                                                                     \
  __asm__(                                                                                       \
      ".section .rodata\n"                                                                       \
      ".balign 64\n"                                                                             \
      ".globl lplb_ipm_cubin_" #ROWS "\n.hidden lplb_ipm_cubin_" #ROWS "\nlplb_ipm_cubin_" #ROWS \
      ":\n.incbin \"" LPLB_IPM_CUBINS "/ipm_" #ROWS ".fatbin\"\n.previous\n")

LPLB_IPM_CUBIN(8);
LPLB_IPM_CUBIN(16);
LPLB_IPM_CUBIN(32);
LPLB_IPM_CUBIN(64);
LPLB_IPM_CUBIN(144);

namespace lplb::solvers {

const void* ipm_cubin(int rows) {
  switch (rows) {
    case 8:
      return lplb_ipm_cubin_8;
    case 16:
      return lplb_ipm_cubin_16;
    case 32:
      return lplb_ipm_cubin_32;
    case 64:
      return lplb_ipm_cubin_64;
    case 144:
      return lplb_ipm_cubin_144;
    default:
      return nullptr;
  }
}

}  // namespace lplb::solvers
