// Compiled for baseline.
#define GRADIST_VECTOR_BYTES 16
#define GRADIST_TILE_ROWS 4
#define GRADIST_POSITION_ROWS 6
#include "gradients/formation_kernel.h"
#include "gradients/position_kernel.h"

namespace gradist::detail {

const FormationKernels kFormationBaseline = make_kernels();

}  // namespace gradist::detail
