#pragma once

#include <vector>

namespace gradist {

/// The median of the values that are numbers; NaN where none is.
double median(std::vector<double> values);

/// Elementwise a / b.
std::vector<double> quotients(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace gradist
