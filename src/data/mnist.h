#pragma once

#include "data/dataset.h"

#include <string>

namespace gradist {

/// MNIST (Y. LeCun, C. Cortes, C. Burges) and what shares its files' names and format, such as
/// Fashion-MNIST (Zalando Research): four IDX files in one folder, plain or .gz, spelled
/// "train-images-idx3-ubyte" or "train-images.idx3-ubyte". Inputs [N, 1, height, width], ten
/// classes. Bytes in memory, or with `options.stream` left in the files, which must be plain then.
DataSplit store_mnist(const DataOptions& options);

/// The same as brightness in [0, 1]; `name` is the data set's.
DataSplit load_mnist(const std::string& name, const std::string& data_dir);

}  // namespace gradist
