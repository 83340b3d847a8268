#pragma once

#include "data/stored_inputs.h"

#include <ATen/core/Tensor.h>
#include <c10/util/accumulate.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gradist {

/// N examples: what a network sees and what it should say.
struct Dataset {
  at::Tensor inputs = {};   ///< [N, ...] float32; images [N, channels, height, width]; or sparse,
                            ///< [N, features] in compressed rows (CSR)
  at::Tensor targets = {};  ///< [N], int64 classes 0..classes-1, or float32 numbers for regression
  int64_t classes = 0;      ///< 0: regression
  std::string name = {};
  bool tabular = false;  ///< every feature means something else and is standardised by itself
  std::optional<StoredInputs> stored = {};  ///< inputs that are read when asked for, instead of
                                            ///< `inputs`

  /// N.
  int64_t size() const { return stored ? stored->size() : inputs.size(0); }

  /// Sizes of one example's input: [features] or [channels, height, width].
  at::IntArrayRef example_shape() const {
    return (stored ? at::IntArrayRef(stored->source->sizes()) : inputs.sizes()).slice(1);
  }

  /// Numbers in one example's input.
  int64_t features() const { return c10::multiply_integers(example_shape()); }

  bool sparse() const {
    return stored ? stored->source->sparse() : inputs.layout() == at::kSparseCsr;
  }

  /// The inputs of the examples `rows` [B] (int64, on the device of the data), sparse if the data
  /// are.
  at::Tensor input_rows(const at::Tensor& rows) const;

  /// Those of the examples from `begin` on.
  at::Tensor input_range(int64_t begin, int64_t count) const;

  /// Numbers a network says about one example.
  int64_t outputs() const { return classes > 0 ? classes : 1; }

  /// The same examples on another device or in another floating-point type; classes stay int64.
  Dataset to(at::Device device, at::ScalarType dtype) const;
};

struct DataSplit {
  Dataset train;
  Dataset test;
};

/// The same with inputs in memory, which were stored.
DataSplit in_memory(DataSplit split);

/// Which data, and what is done to it; the number of examples, corruption and duplicates concern
/// the training set only.
struct DataOptions {
  std::string data = "digits";
  std::string data_dir = {};      ///< folder of the data set's own files; digits need none
  int64_t train_examples = 0;     ///< so many of the training examples; 0: all
  double label_corruption = 0;    ///< fraction of training labels changed to another class
  int64_t duplicate_points = 0;   ///< training points that are repeated until they make up ...
  double duplicate_fraction = 0;  ///< ... this fraction of the training set, N unchanged
  uint64_t seed = 0;
  std::string targets = "classes";     ///< what labels are, see targets.h
  std::string target_column = "last";  ///< where csv has them: first or last
  bool standardize = true;  ///< subtract the training set's mean, divide by its deviation
  std::vector<std::string> hdf5_train = {"train/inputs", "train/targets"};  ///< see hdf5_data.h
  std::vector<std::string> hdf5_test = {"test/inputs", "test/targets"};
  bool stream = false;  ///< leave inputs in their files, read each when its example is asked for
};

/// Names that DataOptions::data takes.
const std::vector<std::string>& data_names();

/// Checks all that can be checked without reading the data.
void validate(const DataOptions& options);

/// Reads the data and applies, in this order: standardisation (by the numbers of the training set
/// as read, for both sets), the choice of training examples, label corruption, duplicates (so that
/// the copies of a point agree in their label too). Same options, same result.
DataSplit load_data(const DataOptions& options);

}  // namespace gradist
