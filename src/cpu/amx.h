/** @file Whether this process may use the tiles of AMX. */
#pragma once

namespace sluice {

/**
 * Whether processor and system grant tiles and products of bfloat16. Linux grants them to a process
 * that asks, all its threads included, those that already run too.
 */
bool amx_granted();

} // namespace sluice
