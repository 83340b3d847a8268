// Compiled for x86-64-v3.
#define GRADIST_VECTOR_BYTES 32
#define GRADIST_TILE_ROWS 4
#define GRADIST_POSITION_ROWS 6
#include "gradients/formation_kernel.h"
#include "gradients/position_kernel.h"

namespace gradist::detail {

const FormationKernels kFormationV3 = make_kernels();

}  // namespace gradist::detail
