#pragma once

#include "data/stored_inputs.h"
#include "data/text_rows.h"

#include <cstdint>
#include <memory>

namespace gradist {

/// Inputs that stay in their text: each row is parsed again when its example is asked for.

/// Rows of a CSV of so many columns, without the one of the targets: [N, columns - 1].
std::shared_ptr<const InputSource> stored_csv(TextRows rows, int64_t columns, int64_t target);

/// Rows in LIBSVM's format: [N, features], sparse.
std::shared_ptr<const InputSource> stored_libsvm(TextRows rows, int64_t features);

}  // namespace gradist
