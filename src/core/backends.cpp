#include "core/backends.h"

#include "core/error.h"
#include "core/plugin.h"

namespace sluice {
namespace {

/** Never destroyed: threads of ours may outlive the static destructors of a process that exits. */
const Plugin &cuda() {
  static const Plugin &plugin =
      *new Plugin(load_plugin({"cuda", "SLUICE_CUDA_BACKEND", "sluice_cuda.so"}));
  return plugin;
}

} // namespace

std::string Device::id() const {
  const std::string name = backend->name;
  return is_cpu() ? name : name + ":" + std::to_string(index);
}

std::vector<Device> devices() {
  std::vector<Device> out{{sluice_cpu_backend(), 0}};
  if (const sluice_backend *backend = cuda().backend) {
    const int32_t count = backend->device_count();
    for (int32_t i = 0; i < count; ++i) out.push_back({backend, i});
  }
  return out;
}

Device find_device(const std::string &id) {
  // Asked for by every block of a CPU run, so that no plug-in is looked for on its account.
  if (id == "cpu") return {sluice_cpu_backend(), 0};
  std::string known;
  for (const Device &device : devices()) {
    if (device.id() == id) return device;
    known += (known.empty() ? "" : ", ") + device.id();
  }
  std::string message =
      format("device: expected one of %s, got '%.100s'", known.c_str(), id.c_str());
  for (const MissingBackend &missing : missing_backends()) {
    if (id.rfind(missing.name, 0) == 0) message += "; " + missing.why;
  }
  throw Error(kStatusArgument, message);
}

std::vector<MissingBackend> missing_backends() {
  if (cuda().backend && cuda().backend->device_count() > 0) return {};
  return {{"cuda", cuda().backend ? cuda().backend->why_none() : cuda().why}};
}

} // namespace sluice
