#pragma once

#include "data/dataset.h"

#include <cstdint>
#include <string>

namespace gradist {

/// Data sets of a table each: a target and features of different meaning, so every feature is
/// standardised by itself, and a numeric target too. With `options.stream` inputs stay in their
/// files, which must be plain; of each example its target and 8 bytes are in memory.

/// `train.csv` and `test.csv` (plain or .gz) in one folder, the target in the first or last column
/// (`options.target_column`), classes or numbers (`options.targets`).
DataSplit load_csv(const DataOptions& options);

/// YearPredictionMSD [Bertin11]: `YearPredictionMSD.txt` (plain or .gz), a line a
/// song: the year, then 90 features. The first 463,715 songs are the training set and the others
/// the test set, as its authors ask, so that no producer is in both.
DataSplit load_year_prediction(const DataOptions& options);

/// The same with the first `train` songs.
DataSplit load_year_prediction(const std::string& data_dir, int64_t train, bool stream = false);

/// The sparse text format of LIBSVM: a training file and a test file of the same name with .t
/// behind it, the only such pair of the folder (a9a and a9a.t; plain or .gz). Inputs stay sparse
/// and are not standardised; both sets have as many features as the larger one.
DataSplit load_libsvm(const DataOptions& options);

}  // namespace gradist
