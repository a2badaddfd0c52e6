#include "core/plugin.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/commands.h"
#include "core/error.h"

namespace sluice {
namespace {

constexpr int kTrialSeconds = 30;
/** What the child answers when the library can be used. */
constexpr char kUsable[] = "usable";

/** Folder of the library that this code is in. */
std::string own_folder() {
  Dl_info info{};
  if (!dladdr(reinterpret_cast<const void *>(&own_folder), &info) || !info.dli_fname) return ".";
  const std::string path = info.dli_fname;
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

/** Loads the library into this process and checks its versions. The library stays loaded when it is
 * accepted. */
Plugin open_library(const std::string &path) {
  void *const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *const reason = dlerror();
    return {nullptr, format("%s cannot be loaded: %s", path.c_str(), reason ? reason : "unknown")};
  }
  const auto init =
      reinterpret_cast<sluice_backend_init_fn>(dlsym(library, SLUICE_BACKEND_INIT_SYMBOL));
  const sluice_backend *const backend = init ? init() : nullptr;
  std::string why;
  if (!init) {
    why = format("%s is not a sluice backend: it has no %s", path.c_str(),
                 SLUICE_BACKEND_INIT_SYMBOL);
  } else if (!backend) {
    why = format("%s gave no backend table", path.c_str());
  } else if (backend->version != SLUICE_BACKEND_VERSION ||
             backend->command_version != kCommandVersion) {
    why = format(
        "%s was built for another sluice: backend table %d and commands %d, expected %d and %d",
        path.c_str(), backend->version, backend->command_version, SLUICE_BACKEND_VERSION,
        kCommandVersion);
  }
  if (why.empty()) return {backend, {}};
  dlclose(library);
  return {nullptr, why};
}

/** What the child does: loads, counts devices, answers kUsable or why not.
 */
[[noreturn]] void try_in_child(const std::string &path, int out) {
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGTERM}) {
    std::signal(signal, SIG_DFL);
  }
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  // A driver's own messages must not land in the host's output.
  const int null = open("/dev/null", O_RDWR);
  if (null >= 0) {
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
  }
  const Plugin plugin = open_library(path);
  std::string why = plugin.why;
  if (plugin.backend && plugin.backend->device_count() <= 0) {
    const char *const reason = plugin.backend->why_none();
    why = reason && *reason ? reason : "it found no device";
  }
  // A word of its own for success: a library may end the process with any exit code.
  if (why.empty()) why = kUsable;
  _exit(write(out, why.data(), why.size()) < 0 ? 2 : 0);
}

/** Tries the library in a child process; empty when it can be used, else why not. */
std::string trial(const std::string &path) {
  int ends[2];
  if (pipe(ends) != 0) return format("%s was not tried: %s", path.c_str(), strerror(errno));
  for (const int end : ends) fcntl(end, F_SETFD, FD_CLOEXEC);
  const pid_t child = fork();
  if (child < 0) {
    close(ends[0]);
    close(ends[1]);
    return format("%s was not tried: %s", path.c_str(), strerror(errno));
  }
  if (child == 0) {
    close(ends[0]);
    try_in_child(path, ends[1]);
  }
  close(ends[1]);

  // The pipe closes when the child ends, however it ends; a driver's own daemon may hold it open,
  // hence the deadline.
  std::string why;
  timespec started{}, now{};
  clock_gettime(CLOCK_MONOTONIC, &started);
  bool closed = false;
  for (int64_t left = kTrialSeconds * 1000; left > 0 && !closed;) {
    pollfd wait{ends[0], POLLIN, 0};
    if (poll(&wait, 1, int(left)) > 0) {
      char buffer[512];
      const ssize_t bytes = read(ends[0], buffer, sizeof buffer);
      if (bytes > 0) why.append(buffer, size_t(bytes));
      closed = bytes == 0 || (bytes < 0 && errno != EINTR);
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    left = kTrialSeconds * 1000 - (now.tv_sec - started.tv_sec) * 1000 -
           (now.tv_nsec - started.tv_nsec) / 1000000;
  }
  close(ends[0]);
  if (!closed) kill(child, SIGKILL);
  int status = 0;
  pid_t ended;
  do {
    ended = waitpid(child, &status, 0);
  } while (ended < 0 && errno == EINTR);

  if (!closed) return format("%s did not answer within %d s", path.c_str(), kTrialSeconds);
  if (ended != child) return format("%s was not tried: %s", path.c_str(), strerror(errno));
  if (WIFSIGNALED(status)) {
    return format("%s crashed while loading (%s)", path.c_str(), strsignal(WTERMSIG(status)));
  }
  if (why == kUsable) return {};
  return why.empty() ? format("%s ended the process that tried it", path.c_str()) : why;
}

} // namespace

Plugin load_plugin(const PluginName &name) {
  const char *const named = std::getenv(name.variable);
  const bool is_named = named && *named;
  const std::string path = is_named ? named : own_folder() + "/" + name.file;
  if (access(path.c_str(), R_OK) != 0) {
    return {nullptr, is_named ? format("%s names %s, which cannot be read: %s", name.variable,
                                       path.c_str(), strerror(errno))
                              : format("the %s plug-in is not installed: expected %s beside the "
                                       "addon, or its path in %s",
                                       name.backend, name.file, name.variable)};
  }
  const std::string why = trial(path);
  if (!why.empty()) return {nullptr, why};
  return open_library(path);
}

} // namespace sluice
