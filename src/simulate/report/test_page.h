// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <string>
#include <vector>

namespace lplb::testing {

/// An element of a page, as a test reads it.
struct Element {
  std::string tag;
  std::map<std::string, std::string> attributes;
  std::string text;                 ///< its own text and that of all elements in it
  std::vector<std::size_t> within;  ///< indices of the elements around it

  bool has(const std::string& name) const { return attributes.count(name) > 0; }
  std::string at(const std::string& name) const {
    const auto found = attributes.find(name);
    return found == attributes.end() ? "" : found->second;
  }
};

/// Replaces "&lt;" and the like by the characters that they stand for. Any other ampersand is a
/// failure.
inline std::string unescape(const std::string& text) {
  static const std::map<std::string, std::string> entities = {
      {"amp", "&"}, {"lt", "<"}, {"gt", ">"}, {"quot", "\""}, {"#39", "'"}, {"nbsp", "\u00A0"}};
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '&') {
      out += text[i];
      continue;
    }
    const std::size_t end = text.find(';', i);
    const auto found = entities.find(text.substr(i + 1, end - i - 1));
    if (found == entities.end()) {
      ADD_FAILURE() << "a bare & before " << text.substr(i, 30);
      return out;
    }
    out += found->second;
    i = end;
  }
  return out;
}

/// Reads a page strictly: every element must be closed in order, every attribute value quoted, and
/// every "<" or "&" of the text escaped. (Browsers repair all of these, and may then show something
/// else.)
class Page {
 public:
  explicit Page(const std::string& html) : html_(html) {
    const std::string doctype = "<!DOCTYPE html>";
    EXPECT_EQ(html_.compare(0, doctype.size(), doctype), 0);
    position_ = doctype.size();
    while (position_ < html_.size() && !::testing::Test::HasFailure()) read();
    EXPECT_TRUE(open_.empty()) << "not closed: " << elements_[open_.back()].tag;
  }

  const std::vector<Element>& elements() const { return elements_; }

  std::vector<Element> all(const std::string& tag, const std::string& attribute = "",
                           const std::string& value = "") const {
    std::vector<Element> found;
    for (const Element& element : elements_) {
      if (!tag.empty() && element.tag != tag) continue;
      if (!attribute.empty() && !element.has(attribute)) continue;
      if (!value.empty() && element.at(attribute) != value) continue;
      found.push_back(element);
    }
    return found;
  }

  Element one(const std::string& tag, const std::string& attribute = "",
              const std::string& value = "") const {
    const std::vector<Element> found = all(tag, attribute, value);
    EXPECT_EQ(found.size(), 1u) << tag << " " << attribute << " " << value;
    return found.empty() ? Element{} : found[0];
  }

 private:
  void read() {
    if (html_[position_] != '<') {
      const std::size_t end = std::min(html_.find('<', position_), html_.size());
      const std::string text = unescape(html_.substr(position_, end - position_));
      for (const std::size_t i : open_) elements_[i].text += text;
      position_ = end;
    } else if (html_[position_ + 1] == '/') {
      const std::size_t end = html_.find('>', position_);
      const std::string tag = html_.substr(position_ + 2, end - position_ - 2);
      ASSERT_FALSE(open_.empty()) << tag << " closes nothing";
      ASSERT_EQ(elements_[open_.back()].tag, tag) << "closed in a wrong order";
      open_.pop_back();
      position_ = end + 1;
    } else {
      read_element();
    }
  }

  void read_element() {
    const std::size_t start = ++position_;
    while (std::isalnum(static_cast<unsigned char>(html_[position_]))) ++position_;
    Element element{html_.substr(start, position_ - start), {}, "", open_};
    ASSERT_FALSE(element.tag.empty()) << "a bare < before " << html_.substr(start, 30);
    bool closed = false;
    for (;;) {
      while (std::isspace(static_cast<unsigned char>(html_[position_]))) ++position_;
      if (html_[position_] == '/') {
        closed = true;
        ++position_;
      }
      if (html_[position_] == '>') break;
      const std::size_t name_start = position_;
      position_ = html_.find_first_of("= >/", position_);
      const std::string name = html_.substr(name_start, position_ - name_start);
      ASSERT_FALSE(element.has(name)) << name << " is given twice";
      std::string value;
      if (html_[position_] == '=') {
        ASSERT_EQ(html_[position_ + 1], '"') << "value of " << name << " has no quotes";
        const std::size_t end = html_.find('"', position_ + 2);
        value = unescape(html_.substr(position_ + 2, end - position_ - 2));
        position_ = end + 1;
      }
      element.attributes[name] = value;
    }
    ++position_;
    const std::string tag = element.tag;
    elements_.push_back(std::move(element));
    const std::size_t index = elements_.size() - 1;
    if (tag == "script" || tag == "style") {
      const std::size_t end = html_.find("</" + tag + ">", position_);
      elements_[index].text = html_.substr(position_, end - position_);
      position_ = end + tag.size() + 3;
    } else if (!closed && tag != "meta" && tag != "wbr") {
      open_.push_back(index);
    }
  }

  const std::string& html_;
  std::size_t position_ = 0;
  std::vector<Element> elements_;
  std::vector<std::size_t> open_;
};

}  // namespace lplb::testing
