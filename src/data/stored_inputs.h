#pragma once

#include "data/input_scale.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace gradist {

/// Inputs of N examples that stay where they are until asked for. A format whose files are left
/// where they are is a class of this kind; what is kept in memory is bounded by a few bytes an
/// example.
class InputSource {
 public:
  virtual ~InputSource() = default;

  /// [N, ...]
  const std::vector<int64_t>& sizes() const { return sizes_; }

  /// Whether `read` gives compressed rows; these are not standardised.
  virtual bool sparse() const { return false; }

  /// The inputs of the examples `rows` (int64 [B], on the CPU), standardised: float32 [B, ...].
  virtual at::Tensor read(const at::Tensor& rows, const InputScale& scale) const = 0;

  /// Those of the examples from `begin` on.
  virtual at::Tensor read_range(int64_t begin, int64_t count, const InputScale& scale) const;

  /// What standardises all of them, from one pass; see scale_of.
  virtual InputScale scale(bool by_feature) const;

 protected:
  explicit InputSource(std::vector<int64_t> sizes) : sizes_(std::move(sizes)) {}

 private:
  std::vector<int64_t> sizes_;
};

/// Inputs of a data set that are read when asked for: example i is rows[i] of the source.
struct StoredInputs {
  std::shared_ptr<const InputSource> source;
  InputScale scale = {};
  at::Tensor rows = {};          ///< int64 [N]; undefined: every one of the source once, in order
  at::TensorOptions place = {};  ///< device and floating-point type of what is read

  int64_t size() const { return rows.defined() ? rows.numel() : source->sizes()[0]; }

  /// The inputs of `examples` (int64 [B], on any device).
  at::Tensor read(const at::Tensor& examples) const;

  /// All of them.
  at::Tensor read_all() const;
};

}  // namespace gradist
