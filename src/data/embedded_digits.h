#pragma once

#include <string_view>

namespace gradist::detail {

/// The bundled handwritten digits, byte for byte the files in src/data/digits (see ATTRIBUTION
/// there), embedded when the library is built. One image a line: 64 pixels 0..16 and the digit,
/// separated by commas. 3,823 and 1,797 lines.
std::string_view digits_train_csv();
std::string_view digits_test_csv();

}  // namespace gradist::detail
