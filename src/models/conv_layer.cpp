#include "models/conv_layer.h"

#include <ATen/ATen.h>

#include <cmath>

namespace gradist {

ConvLayer::ConvLayer(const ImageShape& input, int64_t planes, const Window& window, bool bias,
                     at::Generator& generator)
    : window_(window), positions_(window.over(input).positions()) {
  const int64_t inputs = input.channels * window.kernel * window.kernel;
  const double bound = 1 / std::sqrt(static_cast<double>(inputs));
  const auto draw = [&](at::IntArrayRef sizes) {
    return at::empty(sizes, at::kFloat).uniform_(-bound, bound, generator);
  };
  weight_ =
      register_parameter("weight", draw({planes, input.channels, window.kernel, window.kernel}));
  if (bias) bias_ = register_parameter("bias", draw({planes}));
}

at::Tensor ConvLayer::forward(const at::Tensor& input, Tape* tape) {
  const std::vector<int64_t> stride(2, window_.stride), padding(2, window_.padding);
  const auto plain = [&] { return at::conv2d(input, weight_, bias_, stride, padding); };
  if (tape == nullptr) return plain();
  const rules::Convolution how{
      .stride = stride, .padding = padding, .dilation = {1, 1}, .output_padding = {0, 0}};
  return tape->record(rules::convolution(input, weight_, bias_, how), plain);
}

}  // namespace gradist
