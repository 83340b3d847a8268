#pragma once

#include "options.h"
#include "preset.h"
#include "trajectory/trace_reader.h"

#include <cstdint>
#include <string>
#include <vector>

/// What the program prints, as text.
namespace gradist::detail {

std::string with_separators(int64_t number);  ///< 1,863,690
std::string significant(double number);       ///< 1.23e-05; "-" where undefined
std::string duration(double seconds);         ///< 4.2 s, 3 min 20 s, 2 h 5 min

/// "1 thread", "2 threads".
std::string counted(int64_t number, const std::string& thing);

/// A path as a shell and Python take it: in quotes where it needs them.
std::string shell_word(const std::string& path);
std::string python_text(const std::string& path);

/// Presets: what each reproduces, what it needs, how long it takes.
std::string preset_list(const std::vector<Preset>& presets);

/// The presets of `gradist run` and those of `gradist rf`.
std::string all_presets();

/// Options under their headings: name, meaning, rule and default.
std::string option_help(const OptionList& options);

/// A row an estimator; numbers are medians over the log points.
std::string estimator_table(const std::vector<EstimatorSummary>& estimators);

}  // namespace gradist::detail
