#pragma once

#include <string>

namespace gradist::detail {

/// Refuses a path where no file can be written: a missing or read-only folder, something that is
/// no regular file, an existing file without `overwrite`.
void check_output_place(const std::string& path, bool overwrite);

/// Renames `temporary` onto `path`, which is checked once more.
void publish_file(const std::string& temporary, const std::string& path, bool overwrite);

}  // namespace gradist::detail
