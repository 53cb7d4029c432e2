// SPDX-License-Identifier: MIT
#include "exchange/peer/agreement.h"

#include <cstdint>
#include <cstring>

#include "core/format.h"
#include "lplb/error.h"

namespace lplb::exchange {
namespace {

using Bytes = Agreement::Bytes;

/// Packs strings of any length: for each its length, then its characters.
Bytes to_bytes(const std::vector<std::string>& texts) {
  Bytes bytes;
  for (const std::string& text : texts) {
    const auto size = static_cast<std::uint32_t>(text.size());
    const auto* const head = reinterpret_cast<const std::byte*>(&size);
    const auto* const body = reinterpret_cast<const std::byte*>(text.data());
    bytes.insert(bytes.end(), head, head + sizeof(size));
    bytes.insert(bytes.end(), body, body + text.size());
  }
  return bytes;
}

std::vector<std::string> to_texts(const Bytes& bytes, std::size_t count, std::size_t rank) {
  std::vector<std::string> texts;
  std::size_t at = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t size = 0;
    if (bytes.size() - at < sizeof(size)) break;
    std::memcpy(&size, bytes.data() + at, sizeof(size));
    at += sizeof(size);
    if (bytes.size() - at < size) break;
    texts.emplace_back(reinterpret_cast<const char*>(bytes.data() + at), size);
    at += size;
  }
  if (texts.size() != count || at != bytes.size()) {
    throw ExchangeError(
        formatted("rank {} sent {} bytes that this version of the library does not read", rank,
                  bytes.size()));
  }
  return texts;
}

}  // namespace

std::vector<std::vector<std::string>> Agreement::tell(const std::vector<std::string>& mine) const {
  const std::vector<Bytes> all = all_gather_(to_bytes(mine));
  if (all.size() != static_cast<std::size_t>(num_ranks_)) {
    throw ExchangeError(
        formatted("all_gather returned what {} ranks sent, expected {}", all.size(), num_ranks_));
  }
  std::vector<std::vector<std::string>> texts;
  texts.reserve(all.size());
  for (std::size_t g = 0; g < all.size(); ++g) texts.push_back(to_texts(all[g], mine.size(), g));
  return texts;
}

void Agreement::require_same(const std::vector<std::vector<std::string>>& told, std::size_t index) {
  for (std::size_t g = 1; g < told.size(); ++g) {
    if (told[g][index] != told[0][index]) {
      throw ExchangeError(
          formatted("rank {} connects {}; rank 0 {}", g, told[g][index], told[0][index]));
    }
  }
}

std::string Agreement::share(const std::string& trouble, const Bytes& mine,
                             std::vector<Bytes>* results) const {
  const std::string text(reinterpret_cast<const char*>(mine.data()), mine.size());
  const auto all = tell({trouble, text});
  results->clear();
  for (std::size_t g = 0; g < all.size(); ++g) {
    if (!all[g][0].empty()) return formatted("rank {}: {}", g, all[g][0]);
    const auto* const first = reinterpret_cast<const std::byte*>(all[g][1].data());
    results->emplace_back(first, first + all[g][1].size());
  }
  return "";
}

}  // namespace lplb::exchange
