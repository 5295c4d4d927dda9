#include "btree.hpp"

#include <algorithm>

namespace murmur {
namespace {

using Node = BTree::Node;

constexpr unsigned WIDTH = BTree::WIDTH;
constexpr size_t NEAR = sizeof(Node::near);
constexpr size_t SLACK = 2;  // bytes that all keys share are left in the heads: the next may differ

// The 8 bytes of a key from an offset on; zeros after its end.
uint64_t head_from(Slice key, size_t from) {
  if (from + 8 <= key.size) return load_big_u64(key.data + from);
  if (from >= key.size) return 0;
  size_t left = key.size - from;
  if (key.size >= 8) return load_big_u64(key.data + key.size - 8) << (8 * (8 - left));
  uint64_t word = 0;
  for (size_t at = 0; at < left; at++) word |= uint64_t{key.data[from + at]} << (56 - 8 * at);
  return word;
}

size_t shared_bytes(Slice left, Slice right) {
  size_t size = std::min(left.size, right.size);
  size_t at = 0;
  while (at + 8 <= size) {
    uint64_t difference = load_big_u64(left.data + at) ^ load_big_u64(right.data + at);
    if (difference) return at + __builtin_clzll(difference) / 8;
    at += 8;
  }
  while (at < size && left.data[at] == right.data[at]) at++;
  return at;
}

// How the key stands to the node's prefix: 0 if it begins with it.
int compare_prefix(const Node* node, Slice key) {
  size_t size = node->prefix_size;
  if (size == 0) return 0;
  size_t near = std::min(std::min(size, NEAR), key.size);
  int order = near ? std::memcmp(key.data, node->near, near) : 0;
  if (order == 0 && size > NEAR && key.size > NEAR) {
    order = std::memcmp(key.data + NEAR, node->prefix + NEAR, std::min(size, key.size) - NEAR);
  }
  if (order == 0 && key.size < size) return -1;
  return order;
}

// The first head that is not less, among the node's.
unsigned lower_head(const Node* node, uint64_t head) {
  const uint64_t* base = node->heads;
  unsigned count = node->count;
  if (count == 0) return 0;
  while (count > 1) {
    unsigned half = count / 2;
    base += base[half - 1] < head ? half : 0;
    count -= half;
  }
  return static_cast<unsigned>(base - node->heads) + (*base < head);
}

// The number of the node's keys that are less than this one; `found` if the next one equals it.
unsigned position(const Node* node, Slice key, bool& found) {
  found = false;
  int order = compare_prefix(node, key);
  if (order != 0) return order < 0 ? 0 : node->count;
  uint64_t head = head_from(key, node->prefix_size);
  unsigned at = lower_head(node, head);
  if (at == node->count || node->heads[at] != head) return at;
  unsigned stop = at + 1;
  while (stop < node->count && node->heads[stop] == head) stop++;
  while (at < stop) {
    unsigned middle = (at + stop) / 2;
    order = node->records[middle]->key().compare(key);
    if (order == 0) {
      found = true;
      return middle;
    }
    if (order < 0) {
      at = middle + 1;
    } else {
      stop = middle;
    }
  }
  return at;
}

void set_prefix(Node* node, size_t size) {
  const Record* record = node->records[0];
  node->prefix_size = static_cast<uint32_t>(size);
  node->prefix = record->key().data;
  std::memcpy(node->near, node->prefix, std::min(size, NEAR));
  for (unsigned at = 0; at < node->count; at++) {
    node->heads[at] = head_from(node->records[at]->key(), size);
  }
}

// Lengthen the prefix if the heads have become too much alike to tell keys apart.
void fit_prefix(Node* node) {
  if (node->count < 2) return;
  uint64_t difference = node->heads[0] ^ node->heads[node->count - 1];
  if (difference >> 32 && node->count > 2) return;  // they differ in their first half
  size_t shared = shared_bytes(node->records[0]->key(), node->records[node->count - 1]->key());
  shared = shared > SLACK ? shared - SLACK : 0;
  if (shared > node->prefix_size) set_prefix(node, shared);
}

// Put a record where it belongs; the node is not full.
void put(Node* node, unsigned at, Record* record) {
  Slice key = record->key();
  unsigned moved = node->count - at;
  std::memmove(node->records + at + 1, node->records + at, moved * sizeof(Record*));
  std::memmove(node->heads + at + 1, node->heads + at, moved * sizeof(uint64_t));
  node->records[at] = record;
  node->count++;
  if (node->count == 1) {
    node->prefix_size = 0;
    node->heads[0] = head_from(key, 0);
  } else if (compare_prefix(node, key) != 0) {
    Slice prefix(node->prefix, node->prefix_size);
    size_t shared = shared_bytes(prefix, key);
    set_prefix(node, shared > SLACK ? shared - SLACK : 0);
  } else {
    node->heads[at] = head_from(key, node->prefix_size);
    if (node->count == 2) fit_prefix(node);
  }
}

// Move the records from a place on to an empty node.
void cut(Node* node, unsigned at, Node* right) {
  right->count = node->count - at;
  std::memcpy(right->records, node->records + at, right->count * sizeof(Record*));
  std::memcpy(right->heads, node->heads + at, right->count * sizeof(uint64_t));
  right->prefix_size = node->prefix_size;
  right->prefix = node->prefix;
  std::memcpy(right->near, node->near, NEAR);
  node->count = at;
}

}  // namespace

BTree::Leaf* BTree::new_leaf() {
  Leaf* leaf = new (arena_.take(sizeof(Leaf))) Leaf;
  leaf->count = leaf->prefix_size = 0;
  leaf->prefix = nullptr;
  leaf->next = leaf->previous = nullptr;
  return leaf;
}

BTree::Inner* BTree::new_inner() {
  Inner* inner = new (arena_.take(sizeof(Inner))) Inner;
  inner->count = inner->prefix_size = 0;
  inner->prefix = nullptr;
  return inner;
}

BTree::Leaf* BTree::leaf_of(Slice key) const {
  Node* node = root_;
  for (unsigned level = height_; level > 0; level--) {
    bool found;
    unsigned at = position(node, key, found);
    node = static_cast<Inner*>(node)->children[at + found];
  }
  return static_cast<Leaf*>(node);
}

BTree::Place BTree::lower_bound(Slice key) const {
  if (!root_) return Place{};
  Leaf* leaf = leaf_of(key);
  bool found;
  unsigned at = position(leaf, key, found);
  // The leaf's last key may be less: then the next leaf begins with what is sought.
  return at < leaf->count ? Place{leaf, at} : Place{leaf->next, 0};
}

BTree::Place BTree::before(Slice key) const {
  Place place = lower_bound(key);
  if (!place) return last();
  place.backward();
  return place;
}

Record* BTree::find(Slice key) const {
  if (!root_) return nullptr;
  Leaf* leaf = leaf_of(key);
  bool found;
  unsigned at = position(leaf, key, found);
  return found ? leaf->records[at] : nullptr;
}

void BTree::insert(Record* record) {
  Slice key = record->key();
  count_++;
  if (!root_) root_ = first_ = last_ = new_leaf();

  Inner* path[DEEPEST];
  unsigned taken[DEEPEST];  // which child, on each level
  Node* node = root_;
  bool found;
  // Ascending keys need not ask their way, unless there is something to be cut.
  bool at_end = last_->count > 0 && last_->count < WIDTH &&
                last_->records[last_->count - 1]->key().compare(key) < 0;
  if (at_end) {
    put(last_, last_->count, record);
    return;
  }
  for (unsigned level = 0; level < height_; level++) {
    path[level] = static_cast<Inner*>(node);
    taken[level] = position(node, key, found);  // no separator equals a new key
    node = path[level]->children[taken[level]];
  }
  Leaf* leaf = static_cast<Leaf*>(node);
  unsigned at = position(leaf, key, found);
  if (leaf->count < WIDTH) {
    put(leaf, at, record);
    return;
  }

  Leaf* right = new_leaf();
  right->next = leaf->next;
  right->previous = leaf;
  (leaf->next ? leaf->next->previous : last_) = right;
  leaf->next = right;
  if (at == WIDTH) {
    put(right, 0, record);
  } else {
    cut(leaf, WIDTH / 2, right);
    if (at <= WIDTH / 2) {
      put(leaf, at, record);
    } else {
      put(right, at - WIDTH / 2, record);
    }
    fit_prefix(leaf);
    fit_prefix(right);
  }

  // The new leaf goes into its parent, which may be full in turn.
  Record* separator = right->records[0];
  Node* child = right;
  for (unsigned level = height_; level > 0; level--) {
    Inner* parent = path[level - 1];
    unsigned place = taken[level - 1];
    Inner* target = parent;
    Inner* sibling = nullptr;
    Record* raised = nullptr;
    if (parent->count == WIDTH) {
      // Of the separators, the one in the middle goes up; or, at the end, the new one itself.
      sibling = new_inner();
      if (place == WIDTH) {
        sibling->children[0] = child;
        raised = separator;
        target = nullptr;
      } else {
        unsigned middle = WIDTH / 2;
        cut(parent, middle + 1, sibling);
        std::memcpy(sibling->children, parent->children + middle + 1,
                    (sibling->count + 1) * sizeof(Node*));
        raised = parent->records[middle];
        parent->count = middle;
        if (place > middle) {
          target = sibling;
          place -= middle + 1;
        }
      }
    }
    if (target) {
      std::memmove(target->children + place + 2, target->children + place + 1,
                   (target->count - place) * sizeof(Node*));
      put(target, place, separator);
      target->children[place + 1] = child;
      if (sibling) {
        fit_prefix(parent);
        fit_prefix(sibling);
      }
    }
    if (!sibling) return;
    separator = raised;
    child = sibling;
  }
  Inner* root = new_inner();
  root->children[0] = root_;
  put(root, 0, separator);
  root->children[1] = child;
  root_ = root;
  height_++;
}

}  // namespace murmur
