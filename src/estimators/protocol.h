#pragma once

#include <string>
#include <vector>

namespace gradist {

/// Names for `--protocol`: none, or faghri, which computes variances from sampled estimates as
/// [Faghri20] did and so needs `--measure sampled`.
const std::vector<std::string>& protocol_names();

/// faghri makes the way to measure `sampled` where no option in `chosen` said another.
void imply_measure(const std::string& protocol, const std::vector<std::string>& chosen,
                   std::string& measure);

/// Refuses a protocol that needs another way to measure.
void check_protocol(const std::string& protocol, const std::string& measure);

}  // namespace gradist
