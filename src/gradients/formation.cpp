#include "gradients/formation.h"

namespace gradist::detail {
namespace {

const FormationKernels& kernels() {
#if defined(__x86_64__)
  static const FormationKernels& chosen = __builtin_cpu_supports("x86-64-v4") ? kFormationV4
                                          : __builtin_cpu_supports("x86-64-v3")
                                              ? kFormationV3
                                              : kFormationBaseline;
  return chosen;
#else
  return kFormationBaseline;
#endif
}

double padded(int64_t value, int64_t multiple) {
  return static_cast<double>((value + multiple - 1) / multiple * multiple);
}

}  // namespace

template <>
void form(const Formation<float>& formation, int64_t begin, int64_t end, FormationPart part,
          const FormationResult<float>& result) {
  kernels().form_float(formation, begin, end, part, result);
}

template <>
void form(const Formation<double>& formation, int64_t begin, int64_t end, FormationPart part,
          const FormationResult<double>& result) {
  kernels().form_double(formation, begin, end, part, result);
}

template <>
void form_positions(const PositionFormation<float>& formation, const CoordinateRange& range,
                    const PositionResult<float>& result) {
  kernels().positions_float(formation, range, result);
}

template <>
void form_positions(const PositionFormation<double>& formation, const CoordinateRange& range,
                    const PositionResult<double>& result) {
  kernels().positions_double(formation, range, result);
}

template <typename Scalar>
PositionTile position_tile() {
  return {kernels().position_rows,
          kPositionBlocks * kernels().vector_bytes / static_cast<int64_t>(sizeof(Scalar))};
}
template PositionTile position_tile<float>();
template PositionTile position_tile<double>();

template <typename Scalar>
double formation_operations(const Formation<Scalar>& f) {
  const auto lanes = kernels().vector_bytes / static_cast<int64_t>(sizeof(Scalar));
  const bool joined = f.dilation[1] == 1;
  const auto width = f.input.channels * (joined ? f.kernel_columns : 1);
  const auto runs = f.kernel_rows * (joined ? 1 : f.kernel_columns);
  const auto positions = static_cast<double>(f.backprops.rows * f.backprops.columns) + 1;
  return positions * padded(f.backprops.channels, kernels().tile_rows) * static_cast<double>(runs) *
         padded(width, lanes);
}
template double formation_operations(const Formation<float>&);
template double formation_operations(const Formation<double>&);

}  // namespace gradist::detail
