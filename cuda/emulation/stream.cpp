#include "emulation/stream.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "emulation/past.hpp"

namespace sluice::emulation {
namespace {

using Clock = std::chrono::steady_clock;

uint64_t next_number() {
  static std::atomic<uint64_t> last = 0;
  return ++last;
}

/** A stream's work in order: pieces before `done` are. */
struct Line {
  const uint64_t number = next_number();
  std::deque<Work> waiting;
  uint64_t done = 0;
  Past past; ///< what comes before its next piece, of other lines
  uint64_t issued() const { return done + waiting.size(); }
};
using LineHandle = std::shared_ptr<Line>;

/** A moment in a line: all before it. */
struct Moment {
  LineHandle line;
  uint64_t at = 0;
  Past past;
};

Moment moment_of(const LineHandle &line) {
  Moment now{line, line->issued(), line->past};
  now.past.raise(line->number, now.at);
  return now;
}

void trace(const std::string &line) {
  const char *const path = std::getenv("SLUICE_EMULATION_TRACE");
  if (!path || !*path) return;
  const int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file < 0) return;
  const std::string text = line + "\n";
  if (write(file, text.data(), text.size()) < 0) std::perror("sluice: trace");
  close(file);
}

/** Does a line's work until `at` is done. The first failure; what follows it is done all the same.
 */
cudaError_t drain(Line &line, uint64_t at) {
  cudaError_t code = cudaSuccess;
  while (line.done < at && !line.waiting.empty()) {
    const Work work = std::move(line.waiting.front());
    line.waiting.pop_front();
    line.done += 1;
    const cudaError_t one = work.run();
    if (code == cudaSuccess) code = one;
  }
  return code;
}

/** Does what the host waits for. */
cudaError_t wait_for(const Moment &moment) {
  if (!moment.line) return cudaSuccess;
  const cudaError_t code = drain(*moment.line, moment.at);
  settle(moment.past);
  return code;
}

cudaError_t lost(const std::string &why) {
  last_fault() = why;
  return cudaErrorLaunchFailure;
}

/** Whether a draw says that copies of another stream get on now. */
bool gets_on() {
  static const uint64_t seed = [] {
    const char *const text = std::getenv("SLUICE_EMULATION_SEED");
    return text ? std::strtoull(text, nullptr, 10) : 0;
  }();
  static thread_local uint64_t state = seed * 0x9e3779b97f4a7c15ull;
  if (!state) return false;
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state % 3 == 0;
}

} // namespace

// --- Graphs -------------------------------------------------------------------------------------

/** What was captured, in the order of the calls. Branch 0 is the stream that the capture began in.
 */
struct Captured {
  struct Call {
    enum class Kind { work, record, wait } kind;
    size_t branch;
    Work work;    ///< of kind work
    size_t event; ///< of kinds record and wait
  };
  std::vector<Call> calls;
  /** For each branch: how many calls of each branch come before what it does next. */
  std::vector<std::vector<size_t>> known;
  std::vector<size_t> counts;
  std::vector<std::vector<size_t>> events; ///< known of the branch at the record
  std::string broken;
  bool ended = false;

  size_t add_branch() {
    known.emplace_back();
    counts.push_back(0);
    return counts.size() - 1;
  }
  void merge(size_t branch, const std::vector<size_t> &other) {
    std::vector<size_t> &mine = known[branch];
    mine.resize(counts.size());
    for (size_t i = 0; i < other.size(); ++i) mine[i] = std::max(mine[i], other[i]);
  }
  void count(size_t branch) {
    known[branch].resize(counts.size());
    known[branch][branch] = ++counts[branch];
  }
};

} // namespace sluice::emulation

using namespace sluice::emulation;

struct EmulatedStream {
  LineHandle line = std::make_shared<Line>();
  /** Lines that this stream has waited for. */
  std::vector<LineHandle> others;
  std::shared_ptr<Captured> capture;
  size_t branch = 0;

  /** Whether calls are captured; streams that had joined a capture leave it at its end. */
  bool captures() {
    if (capture && capture->ended) capture.reset();
    return capture != nullptr;
  }
};

struct EmulatedEvent {
  bool timed = true;
  Moment moment;
  Clock::time_point time;
  std::shared_ptr<Captured> capture;
  size_t number = 0;
};

struct EmulatedGraph {
  std::shared_ptr<Captured> captured;
};

struct EmulatedGraphExec {
  std::shared_ptr<const Captured> captured;
};

namespace sluice::emulation {
namespace {

cudaError_t put(const LineHandle &line, const std::vector<LineHandle> &others, Work work) {
  if (std::string why =
          add_work(work.name, line->number, line->issued() + 1, line->past, work.touched);
      !why.empty())
    return lost(why);
  if (work.poison) work.poison();
  const bool now = work.kind == Work::Kind::kernel;
  line->waiting.push_back(std::move(work));
  for (const LineHandle &other : others) {
    if (other != line && gets_on()) drain(*other, other->done + 1);
  }
  return now ? drain(*line, line->issued()) : cudaSuccess;
}

/** What comes next in a line waits for a moment of another: that is caught up with at once. */
cudaError_t put_wait(const LineHandle &line, const Moment &moment) {
  line->past.merge(moment.past);
  return !moment.line || moment.line == line ? cudaSuccess : drain(*moment.line, moment.at);
}

} // namespace

cudaError_t give(cudaStream_t stream, Work work) {
  if (!stream->captures()) return put(stream->line, stream->others, std::move(work));
  Captured &captured = *stream->capture;
  captured.count(stream->branch);
  captured.calls.push_back({Captured::Call::Kind::work, stream->branch, std::move(work), 0});
  return cudaSuccess;
}

cudaError_t launch_kernel(cudaStream_t stream, const char *name, const Shape &shape,
                          std::function<void()> body) {
  const std::string kernel = name;
  if (!stream) { // the test programs' own, with one launch at a time
    std::string fault = run_grid(name, shape, body);
    return fault.empty() ? cudaSuccess : lost(fault);
  }
  if (!stream->captures())
    trace("launch " + kernel + " on " + std::to_string(stream->line->number));
  const auto run = [kernel, shape, body = std::move(body), claims = claims_now()] {
    ClaimsScope scope(claims);
    const std::string fault = run_grid(kernel.c_str(), shape, body);
    return fault.empty() ? cudaSuccess : lost(fault);
  };
  return give(stream, {Work::Kind::kernel, kernel, run, claims_now(), {}});
}

} // namespace sluice::emulation

// --- The runtime's calls ------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) {
  *out = new EmulatedStream;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  wait_for(moment_of(stream->line));
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (!stream->captures()) return wait_for(moment_of(stream->line));
  stream->capture->broken = "a captured stream was waited for";
  return cudaErrorStreamCaptureUnsupported;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (!event->capture && !stream->captures()) {
    const LineHandle &other = event->moment.line;
    std::vector<LineHandle> &others = stream->others;
    if (other && std::find(others.begin(), others.end(), other) == others.end())
      others.push_back(other);
    return put_wait(stream->line, event->moment);
  }
  if (!event->capture || event->capture->ended ||
      (stream->captures() && stream->capture != event->capture)) {
    if (stream->captures()) stream->capture->broken = "a captured stream waits for work outside";
    return cudaErrorStreamCaptureIsolation;
  }
  Captured &captured = *event->capture;
  if (!stream->captures()) { // joins the capture
    stream->capture = event->capture;
    stream->branch = captured.add_branch();
  }
  captured.merge(stream->branch, captured.events[event->number]);
  captured.calls.push_back({Captured::Call::Kind::wait, stream->branch, {}, event->number});
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
  *out = new EmulatedEvent;
  (*out)->timed = !(flags & cudaEventDisableTiming);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->capture = stream->captures() ? stream->capture : nullptr;
  if (!event->capture) {
    event->moment = moment_of(stream->line);
    event->time = Clock::now();
    return cudaSuccess;
  }
  Captured &captured = *stream->capture;
  captured.known[stream->branch].resize(captured.counts.size());
  event->number = captured.events.size();
  captured.events.push_back(captured.known[stream->branch]);
  captured.calls.push_back({Captured::Call::Kind::record, stream->branch, {}, event->number});
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->capture) {
    event->capture->broken = "an event of a capture was waited for";
    return cudaErrorCapturedEvent;
  }
  return wait_for(event->moment);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
  if (!from->timed || !to->timed || !from->moment.line || !to->moment.line)
    return cudaErrorInvalidResourceHandle;
  *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream->captures()) return cudaErrorIllegalState;
  stream->capture = std::make_shared<Captured>();
  stream->branch = stream->capture->add_branch();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
  *out = nullptr;
  if (!stream->captures() || stream->branch != 0) return cudaErrorIllegalState;
  const std::shared_ptr<Captured> captured = std::move(stream->capture);
  captured->ended = true;
  captured->known[0].resize(captured->counts.size());
  for (size_t branch = 1; branch < captured->counts.size(); ++branch) {
    if (captured->known[0][branch] < captured->counts[branch] && captured->broken.empty())
      captured->broken = "a stream of the capture was not joined";
  }
  if (!captured->broken.empty()) {
    last_fault() = "capture: " + captured->broken;
    return captured->broken == "a stream of the capture was not joined"
               ? cudaErrorStreamCaptureUnjoined
               : cudaErrorStreamCaptureInvalidated;
  }
  *out = new EmulatedGraph{captured};
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) {
  *out = nullptr;
  const char *const most = std::getenv("SLUICE_EMULATION_GRAPHS");
  if (most && std::strtoull(most, nullptr, 10) == 0) return cudaErrorMemoryAllocation;
  *out = new EmulatedGraphExec{graph->captured};
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  if (stream->captures()) return cudaErrorStreamCaptureUnsupported;
  const Captured &captured = *graph->captured;
  trace("graph of " + std::to_string(captured.calls.size()) + " calls");
  std::vector<LineHandle> lines{stream->line};
  while (lines.size() < captured.counts.size()) lines.push_back(std::make_shared<Line>());
  std::vector<Moment> events(captured.events.size());
  cudaError_t code = cudaSuccess;
  for (const Captured::Call &call : captured.calls) {
    const LineHandle &line = lines[call.branch];
    switch (call.kind) {
      case Captured::Call::Kind::record:
        events[call.event] = moment_of(line);
        break;
      case Captured::Call::Kind::wait:
        if (const cudaError_t one = put_wait(line, events[call.event]); code == cudaSuccess)
          code = one;
        break;
      case Captured::Call::Kind::work:
        if (const cudaError_t one = put(line, lines, call.work); code == cudaSuccess) code = one;
        break;
    }
  }
  return code;
}
