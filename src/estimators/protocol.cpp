#include "estimators/protocol.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace gradist {

const std::vector<std::string>& protocol_names() {
  static const std::vector<std::string> names = {"none", "faghri"};
  return names;
}

void imply_measure(const std::string& protocol, const std::vector<std::string>& chosen,
                   std::string& measure) {
  if (protocol == "faghri" && std::find(chosen.begin(), chosen.end(), "measure") == chosen.end()) {
    measure = "sampled";
  }
}

void check_protocol(const std::string& protocol, const std::string& measure) {
  TORCH_CHECK_VALUE(protocol != "faghri" || measure == "sampled", "protocol = ", protocol,
                    ", must be none where measure = ", measure, " (it needs sampled)");
}

}  // namespace gradist
