// Compiled for x86-64-v4.
#define GRADIST_VECTOR_BYTES 64
#define GRADIST_TILE_ROWS 8
#define GRADIST_POSITION_ROWS 12
#include "gradients/formation_kernel.h"
#include "gradients/position_kernel.h"

namespace gradist::detail {

const FormationKernels kFormationV4 = make_kernels();

}  // namespace gradist::detail
