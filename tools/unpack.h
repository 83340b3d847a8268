#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace gradist::detail {

/// Writes the files of an archive (tar.gz, zip) whose last names are `members` into a folder, under
/// these names; folders of the archive count for nothing, so nothing is written elsewhere. Each
/// file gets its name when it is whole. All members must be there. Errors are ValueErrors.
void unpack(const std::filesystem::path& archive, const std::vector<std::string>& members,
            const std::filesystem::path& folder);

}  // namespace gradist::detail
