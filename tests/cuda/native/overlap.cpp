// Two streams of kernels: whether every order that a segment needs is there, and whether the
// emulation finds one that is not. One line a case, as `name: what was found`.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "emulation/memory.hpp"
#include "emulation/stream.hpp"
#include "overlap.hpp"
#include "segments.hpp"

namespace sluice::cuda {
namespace {

// --- Placements, by a checker of its own ---------------------------------------------------------

/**
 * What is wrong with a placement, or null. before[i][j]: command j has ended when i begins; of a
 * copy with a ticket, that it has begun. Copies end at their join.
 */
const char *fault_of(const Segment &segment, const std::vector<Placement> &placements,
                     int32_t &beside) {
  const size_t count = size_t(segment.count);
  std::vector<const Header *> commands;
  for (const int32_t *at = segment.words; commands.size() < count;) {
    commands.push_back(reinterpret_cast<const Header *>(at));
    at += commands.back()->words;
  }
  std::vector<std::vector<bool>> before(count, std::vector<bool>(count));
  for (size_t i = 0; i < count; ++i) {
    const auto follow = [&](size_t j) {
      before[i][j] = true;
      for (size_t k = 0; k < j; ++k)
        if (before[j][k]) before[i][k] = true;
    };
    for (size_t j = 0; j < i; ++j)
      if (placements[j].stream == placements[i].stream) follow(j);
    if (const int32_t waited = placements[i].waits_for; waited != kNone) {
      if (waited >= int32_t(i)) return "it waits for what comes later";
      if (!placements[size_t(waited)].is_waited_for) return "no event is recorded";
      follow(size_t(waited));
    }
    const Opcode opcode = commands[i]->opcode;
    if ((opcode == Opcode::copy || opcode == Opcode::join) && placements[i].stream != kMainStream)
      return "a copy or join beside the main stream";
    for (size_t j = 0; j < i; ++j) {
      if (opcode == Opcode::join || commands[j]->opcode == Opcode::join) continue;
      if (!test::meet(*commands[i], *commands[j])) {
        beside += before[i][j] ? 0 : 1;
        continue;
      }
      if (!before[i][j]) return "two commands that meet are in no order";
      if (commands[j]->opcode != Opcode::copy) continue;
      // Where the segment joins the copy before i, i must come after that join.
      const int32_t ticket = reinterpret_cast<const CopyCommand *>(commands[j])->ticket;
      if (ticket == 0) continue;
      for (size_t k = j + 1; k < i; ++k) {
        if (commands[k]->opcode != Opcode::join) continue;
        if (reinterpret_cast<const JoinCommand *>(commands[k])->ticket < ticket) continue;
        if (!before[i][k]) return "a command meets a copy and does not come after its join";
        break;
      }
    }
  }
  return nullptr;
}

void placements_of(uint32_t seed) {
  int32_t beside = 0;
  for (uint32_t round = 0; round < 400; ++round) {
    const test::Commands commands(seed * 400 + round, 1 + int32_t(round % 40));
    const Segment segment{commands.words().data(), commands.count(),
                          int32_t(commands.words().size())};
    if (const char *const fault = fault_of(segment, place(segment), beside)) {
      std::printf("placements: round %u: %s\n", round, fault);
      return;
    }
  }
  std::printf("placements: sound, %s\n", beside > 0 ? "some beside each other" : "none beside");
}

// --- The emulation -------------------------------------------------------------------------------

float shared_place[64], other_place[64];

cudaError_t touch_places(cudaStream_t stream, const float *read, float *written) {
  emulation::claim(read, sizeof shared_place, false);
  emulation::claim(written, sizeof shared_place, true);
  const cudaError_t code = emulation::launch_kernel(stream, "toucher", {{1}, 32, 0}, [] {});
  emulation::clear_claims();
  return code;
}

enum class Wait { none, right, early };

/** Two launches on two streams; the second reads, or writes, what the first writes. */
void pair(const char *name, bool captured, bool writes, Wait wait) {
  cudaStream_t a = nullptr, b = nullptr;
  cudaEvent_t begun = nullptr, passed = nullptr, ended = nullptr;
  cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking);
  cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking);
  for (cudaEvent_t *event : {&begun, &passed, &ended})
    cudaEventCreateWithFlags(event, cudaEventDisableTiming);
  if (captured) cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal);
  cudaEventRecord(begun, a);
  cudaStreamWaitEvent(b, begun, 0);
  if (wait == Wait::early) cudaEventRecord(passed, a);
  cudaError_t code = touch_places(a, other_place, shared_place);
  if (wait == Wait::right) cudaEventRecord(passed, a);
  if (wait != Wait::none) cudaStreamWaitEvent(b, passed, 0);
  if (code == cudaSuccess)
    code = writes ? touch_places(b, other_place, shared_place)
                  : touch_places(b, shared_place, other_place + 0);
  cudaEventRecord(ended, b);
  cudaStreamWaitEvent(a, ended, 0);
  if (captured) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    code = cudaStreamEndCapture(a, &graph);
    if (code == cudaSuccess) code = cudaGraphInstantiate(&exec, graph, 0);
    if (code == cudaSuccess) code = cudaGraphLaunch(exec, a);
    if (graph) cudaGraphDestroy(graph);
    if (exec) cudaGraphExecDestroy(exec);
  }
  std::printf("%s%s: %s\n", name, captured ? ", a graph" : "",
              code == cudaSuccess ? "sound" : cudaGetErrorString(code));
  cudaStreamSynchronize(a);
  cudaStreamSynchronize(b);
  for (cudaEvent_t event : {begun, passed, ended}) cudaEventDestroy(event);
  cudaStreamDestroy(a);
  cudaStreamDestroy(b);
}

} // namespace
} // namespace sluice::cuda

int main(int count, char **words) {
  using namespace sluice::cuda;
  for (int i = 1; i < count; ++i) placements_of(uint32_t(std::strtoul(words[i], nullptr, 10)));
  for (const bool captured : {false, true}) {
    pair("waits for the write", captured, false, Wait::right);
    pair("reads without a wait", captured, false, Wait::none);
    pair("reads after a wait for what came before", captured, false, Wait::early);
    pair("writes after the write", captured, true, Wait::right);
    pair("writes without a wait", captured, true, Wait::none);
  }
  return 0;
}
