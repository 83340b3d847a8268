#include "tools/checksum.h"

#include <c10/util/Exception.h>
#include <openssl/evp.h>

#include <array>
#include <fstream>
#include <memory>
#include <string_view>
#include <vector>

namespace gradist::detail {

std::string checksum_of(const std::filesystem::path& file, const char* algorithm) {
  constexpr size_t kPiece = size_t{1} << 20;
  const EVP_MD* kind = std::string_view(algorithm) == "MD5" ? EVP_md5() : EVP_sha256();
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free);
  TORCH_CHECK(EVP_DigestInit_ex(context.get(), kind, nullptr) == 1, algorithm,
              ", must be offered by the OpenSSL of this machine");
  std::ifstream stream(file, std::ios::binary);
  std::vector<char> piece(kPiece);
  while (stream) {
    stream.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    EVP_DigestUpdate(context.get(), piece.data(), static_cast<size_t>(stream.gcount()));
  }
  TORCH_CHECK_VALUE(stream.eof(), file.string(), ": cannot be read, must be readable");
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest = {};
  unsigned length = 0;
  EVP_DigestFinal_ex(context.get(), digest.data(), &length);
  std::string text;
  for (unsigned i = 0; i < length; ++i) {
    for (const int nibble : {digest[i] >> 4, digest[i] & 15}) text += "0123456789abcdef"[nibble];
  }
  return text;
}

}  // namespace gradist::detail
