#include "emulation/fiber.hpp"

namespace sluice::emulation {

#if defined(__x86_64__)

// Callee-saved registers of the System V ABI go onto the old stack and come off the new one. The
// control words of the floating-point units are never changed by kernels and stay as they are.
asm(R"(
.text
.globl sluice_fiber_switch
.hidden sluice_fiber_switch
.type sluice_fiber_switch, @function
sluice_fiber_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq (%rsi), %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size sluice_fiber_switch, .-sluice_fiber_switch
.globl sluice_fiber_enter
.hidden sluice_fiber_enter
.type sluice_fiber_enter, @function
sluice_fiber_enter:
  movq %r12, %rdi
  callq *%r13
  ud2
.size sluice_fiber_enter, .-sluice_fiber_enter
)");

extern "C" void sluice_fiber_switch(void **from, void **to);
extern "C" void sluice_fiber_enter();

void fiber_start(Fiber &fiber, uint8_t *stack, size_t stack_bytes, void (*entry)(void *),
                 void *argument) {
  uintptr_t top = (uintptr_t(stack) + stack_bytes) & ~uintptr_t(15);
  void **at = reinterpret_cast<void **>(top);
  *--at = nullptr; // keeps the stack aligned as at a call
  *--at = nullptr;
  *--at = reinterpret_cast<void *>(&sluice_fiber_enter); // popped by ret
  *--at = nullptr;                                       // rbp
  *--at = nullptr;                                       // rbx
  *--at = argument;                                      // r12
  *--at = reinterpret_cast<void *>(entry);               // r13
  *--at = nullptr;                                       // r14
  *--at = nullptr;                                       // r15
  fiber.stack_pointer = at;
}

void fiber_switch(Fiber &from, Fiber &to) {
  sluice_fiber_switch(&from.stack_pointer, &to.stack_pointer);
}

#else

namespace {

/** makecontext passes ints only: a pointer travels in two halves. */
void enter(unsigned entry_high, unsigned entry_low, unsigned high, unsigned low) {
  const auto join = [](unsigned a, unsigned b) { return uintptr_t(uint64_t(a) << 32 | b); };
  reinterpret_cast<void (*)(void *)>(join(entry_high, entry_low))(
      reinterpret_cast<void *>(join(high, low)));
}

} // namespace

void fiber_start(Fiber &fiber, uint8_t *stack, size_t stack_bytes, void (*entry)(void *),
                 void *argument) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack;
  fiber.context.uc_stack.ss_size = stack_bytes;
  fiber.context.uc_link = nullptr;
  const uint64_t e = uintptr_t(entry), a = uintptr_t(argument);
  makecontext(&fiber.context, reinterpret_cast<void (*)()>(enter), 4, unsigned(e >> 32),
              unsigned(e), unsigned(a >> 32), unsigned(a));
}

void fiber_switch(Fiber &from, Fiber &to) { swapcontext(&from.context, &to.context); }

#endif

} // namespace sluice::emulation
