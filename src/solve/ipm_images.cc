// SPDX-License-Identifier: MIT
#include "solve/ipm_images.h"

// Machine code of ipm_kernel.cu, a fatbin a size, as the build linked it.
// NOTE: the compiler does not report what .incbin reads as a dependency; CMake is told
// (LplbMathDx.cmake), and ccache leaves such files alone.
#define LPLB_IPM_IMAGE(ROWS)                                                                     \
  __asm__(                                                                                       \
      ".section .rodata\n"                                                                       \
      ".balign 64\n"                                                                             \
      ".globl lplb_ipm_image_" #ROWS "\n.hidden lplb_ipm_image_" #ROWS "\nlplb_ipm_image_" #ROWS \
      ":\n.incbin \"" LPLB_IPM_IMAGES "/ipm_" #ROWS ".fatbin\"\n.previous\n")

LPLB_IPM_IMAGE(8);
LPLB_IPM_IMAGE(16);
LPLB_IPM_IMAGE(32);
LPLB_IPM_IMAGE(64);
LPLB_IPM_IMAGE(144);

namespace lplb::solvers {

const void* ipm_image(int rows) {
  switch (rows) {
    case 8:
      return lplb_ipm_image_8;
    case 16:
      return lplb_ipm_image_16;
    case 32:
      return lplb_ipm_image_32;
    case 64:
      return lplb_ipm_image_64;
    case 144:
      return lplb_ipm_image_144;
    default:
      return nullptr;
  }
}

}  // namespace lplb::solvers
