#pragma once

#include "data/dataset.h"

namespace gradist {

/// Inputs and targets of any names in HDF5 files. `options.hdf5_train` and `hdf5_test` are two
/// places each, inputs and targets: NAME in the one file that `data_dir` is or holds (*.h5,
/// *.hdf5), or FILE:NAME with a file in `data_dir`. Inputs [N] and [N, features] are a table, every
/// column standardised by itself; [N, height, width] and [N, channels, height, width] are images.
/// Targets are [N], as `options.targets` says classes or numbers. With `options.stream` inputs stay
/// in their files.
DataSplit load_hdf5(const DataOptions& options);

}  // namespace gradist
