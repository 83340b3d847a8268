#pragma once

#include "data/dataset.h"

#include <string>
#include <string_view>

namespace gradist {

/// Optical Recognition of Handwritten Digits, UCI (E. Alpaydin and C. Kaynak, CC BY 4.0; see
/// digits/ATTRIBUTION): 3,823 training and 1,797 test images of 8 x 8 pixels, ten classes. Inputs
/// [N, 64] in [0, 1].
///
/// The data is part of the library; with a folder given, its optdigits.tra and optdigits.tes are
/// read instead.
DataSplit load_digits(const std::string& data_dir = "");

/// One image a line: 64 whole numbers 0..16, then the class 0..9, separated by commas. `name` is
/// what errors call the text.
Dataset parse_digits(std::string_view csv, const std::string& name);

}  // namespace gradist
