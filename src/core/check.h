/**
 * @file
 * Checks the fields of one command against the contract in commands.h: everything that a kernel
 * relies on and that does not depend on the size of a slot.
 */
#pragma once

#include <string>

#include "core/commands.h"

namespace sluice {

/** Words of a command's struct; 0 for an opcode that does not exist. */
int32_t command_words(Opcode opcode);

/** `conv`, `norm_partials`, ...; `?` for an opcode that does not exist. */
const char *opcode_name(Opcode opcode);

/** What a backend's kernels take; see sluice_backend. */
struct Abilities {
  bool narrow = false;        ///< activations in f16 and bf16 too
  bool scratch = true;        ///< commands carry scratch for each thread; false: none
  bool bf16_products = false; ///< convolutions may compute in pairs
  bool conv_phases = false;   ///< convolutions may have their weights by phases
};

/** The first rule that a command of the right length breaks: `source[0]: expected ..., got ...`;
 * empty when there is none. */
std::string check_command(const Header &command, const Abilities &abilities);

} // namespace sluice
