#include "queue.hpp"

#include <cstdlib>
#include <cstring>
#include <new>

#include "dispatch.hpp"

namespace sluice::cuda {
namespace {

/** Whether a variable that is read once does not say 0. */
bool is_wanted(const char *variable) {
  const char *const text = std::getenv(variable);
  return !text || std::strcmp(text, "0") != 0;
}

/** SLUICE_CUDA_GRAPHS=0 launches every kernel by itself, for tools that report single launches. */
bool wants_graphs() {
  static const bool wanted = is_wanted("SLUICE_CUDA_GRAPHS");
  return wanted;
}

/** SLUICE_CUDA_OVERLAP=0 launches one kernel after another. */
bool wants_overlap() {
  static const bool wanted = is_wanted("SLUICE_CUDA_OVERLAP");
  return wanted;
}

/** Launches a segment's commands on the streams that they are placed on. */
int launch_placed(Lane &lane, const Segment &segment, const std::vector<Placement> &placements,
                  void *const *bases, int32_t *taken, const Complaint &complaint) {
  KernelStreams &kernels = lane.kernels;
  SLUICE_CUDA_TRY(complaint, kernels.begin(placements));
  const int32_t *at = segment.words;
  for (*taken = 0; *taken < segment.count; ++*taken) {
    const Placement &placement = placements[size_t(*taken)];
    const Header &command = reinterpret_cast<const Header &>(*at);
    SLUICE_CUDA_TRY(complaint, kernels.enter(placement));
    const Launch launch{lane.device, kernels.of(placement), bases, lane.trouble, lane.copies};
    if (const int status = dispatch(command, launch, complaint); status != SLUICE_OK) return status;
    SLUICE_CUDA_TRY(complaint, kernels.leave(placement, size_t(*taken)));
    at += command.words;
  }
  return SLUICE_OK;
}

int launch_each(Lane &lane, const Segment &segment, void *const *bases, int32_t *taken,
                const Complaint &complaint) {
  const std::vector<Placement> placements =
      wants_overlap() ? place(segment) : std::vector<Placement>(size_t(segment.count));
  const int status = launch_placed(lane, segment, placements, bases, taken, complaint);
  // Also where a command failed: those before it are waited for with the main stream.
  const cudaError_t ended = lane.kernels.end();
  if (status != SLUICE_OK) return status;
  SLUICE_CUDA_TRY(complaint, ended);
  return SLUICE_OK;
}

/** Captures the segment's launches and makes them a graph; none where there is no memory for it. */
int capture(Lane &lane, const Segment &segment, void *const *bases, Graphs::Entry &entry,
            int32_t *taken, const Complaint &complaint) {
  SLUICE_CUDA_TRY(complaint,
                  cudaStreamBeginCapture(lane.kernels.main(), cudaStreamCaptureModeThreadLocal));
  const int status = launch_each(lane, segment, bases, taken, complaint);
  // A graph holds its copies whole: those that are open end with it.
  const cudaError_t joined = lane.copies.join_all(lane.kernels.main());
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(lane.kernels.main(), &graph);
  if (status != SLUICE_OK) {
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();
    return status;
  }
  *taken = 0;
  SLUICE_CUDA_TRY(complaint, joined);
  SLUICE_CUDA_TRY(complaint, ended);
  const cudaError_t made = cudaGraphInstantiate(&entry.graph, graph, 0);
  cudaGraphDestroy(graph);
  if (made == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    entry.graph = nullptr;
    entry.refused = true;
    return SLUICE_OK;
  }
  SLUICE_CUDA_TRY(complaint, made);
  return SLUICE_OK;
}

int launch_segment(Lane &lane, const Segment &segment, void *const *bases, int32_t *taken,
                   const Complaint &complaint) {
  Graphs::Entry &entry = lane.graphs.of(segment, bases);
  if (!entry.graph && entry.met && !entry.refused && wants_graphs()) {
    const int status = capture(lane, segment, bases, entry, taken, complaint);
    if (status != SLUICE_OK) return status;
  }
  if (entry.graph) {
    SLUICE_CUDA_TRY(complaint, cudaGraphLaunch(entry.graph, lane.kernels.main()));
    *taken = segment.count;
    return SLUICE_OK;
  }
  entry.met = true;
  const int status = launch_each(lane, segment, bases, taken, complaint);
  if (status != SLUICE_OK) return status;
  // As in a graph: no copy goes on from one segment into the next.
  SLUICE_CUDA_TRY(complaint, lane.copies.join_all(lane.kernels.main()));
  return SLUICE_OK;
}

int submit_next(sluice_queue &queue, const int32_t *commands, int32_t count, void *const *bases,
                int32_t *taken, const Complaint &complaint) {
  Lane &lane = *queue.lane;
  SLUICE_CUDA_TRY(complaint, cudaSetDevice(lane.device.ordinal));
  if (queue.segments == 0)
    SLUICE_CUDA_TRY(complaint, cudaEventRecord(lane.began, lane.kernels.main()));
  cudaEvent_t &end = lane.ends[queue.segments % Lane::kUnderWay];
  // The end of the segment that far back; one that was never recorded counts as reached.
  SLUICE_CUDA_TRY(complaint, cudaEventSynchronize(end));
  const Segment segment = next_segment(commands, count, lane.device);
  const int status = launch_segment(lane, segment, bases, taken, complaint);
  if (status != SLUICE_OK) return status;
  SLUICE_CUDA_TRY(complaint, cudaEventRecord(end, lane.kernels.main()));
  queue.segments += 1;
  return SLUICE_OK;
}

int finish_all(sluice_queue &queue, int64_t *nanoseconds, const Complaint &complaint) {
  Lane &lane = *queue.lane;
  SLUICE_CUDA_TRY(complaint, cudaSetDevice(lane.device.ordinal));
  SLUICE_CUDA_TRY(complaint, cudaEventRecord(lane.ended, lane.kernels.main()));
  SLUICE_CUDA_TRY(complaint, cudaEventSynchronize(lane.ended));
  SLUICE_CUDA_TRY(complaint, lane.copies.finish());
  if (queue.segments > 0) {
    float milliseconds = 0;
    SLUICE_CUDA_TRY(complaint, cudaEventElapsedTime(&milliseconds, lane.began, lane.ended));
    *nanoseconds = int64_t(double(milliseconds) * 1e6);
  }
  if (*static_cast<volatile int32_t *>(lane.trouble) == 0) return SLUICE_OK;
  *lane.trouble = 0;
  return fail(SLUICE_BAD_DATA, complaint.text, complaint.capacity,
              "expected token ids inside the table, got one outside; check the ids");
}

} // namespace

int create_queue(const Device &device, sluice_queue **out, const Complaint &complaint) {
  sluice_queue *const queue = new (std::nothrow) sluice_queue;
  if (!queue) {
    return fail(SLUICE_OUT_OF_MEMORY, complaint.text, complaint.capacity,
                "expected a queue, got no memory");
  }
  const int status = take_lane(device, &queue->lane, complaint);
  if (status != SLUICE_OK) {
    delete queue;
    return status;
  }
  *out = queue;
  return SLUICE_OK;
}

void destroy_queue(sluice_queue *queue) {
  if (!queue) return;
  cudaSetDevice(queue->lane->device.ordinal);
  const bool idle =
      queue->lane->kernels.finish() == cudaSuccess && queue->lane->copies.finish() == cudaSuccess;
  cudaGetLastError();
  return_lane(queue->lane, queue->usable && idle);
  delete queue;
}

int submit(sluice_queue &queue, const int32_t *commands, int32_t count, void *const *bases,
           int32_t *taken, const Complaint &complaint) {
  *taken = 0;
  const int status = submit_next(queue, commands, count, bases, taken, complaint);
  if (status == SLUICE_DEVICE_LOST) queue.usable = false;
  return status;
}

int finish(sluice_queue &queue, int64_t *nanoseconds, const Complaint &complaint) {
  const int status = finish_all(queue, nanoseconds, complaint);
  if (status == SLUICE_DEVICE_LOST) queue.usable = false;
  return status;
}

} // namespace sluice::cuda
