/**
 * @file
 * Products of matrices by groups of four warps (wgmma). A product begins with its instruction and
 * reads shared memory at any moment until each of the four warps has waited for its group; until
 * then nobody may write what it reads, and its sums hold no number.
 */
#pragma once

#include "emulation/memory.hpp"

namespace sluice::emulation {

/** A thread's part of a product: 64 rows, `columns`, 16 of the depth. */
struct ProductDeposit {
  float *sums; ///< columns / 2 of them
  uint64_t a, b;
  uint32_t columns;
  float (*widen)(uint16_t bits);
  Site site;
};

void product_add(ProductDeposit &mine, Site site);
void product_fence(Site site);
void product_commit(Site site);
void product_wait(uint32_t left, Site site);

/** Ends the launch where the running thread cannot know that the products which read these bytes
 * have ended. */
void check_product_reads_end(uint32_t begin, uint32_t bytes, Site site);

void products_block_begin();
/** Complains about products that nobody waited for. */
void products_block_end();

} // namespace sluice::emulation
