/*
 * GPU flavour only: keeps the one privilege that the worker needs of the driver, to say that the GPUs may work, so that the worker
 * itself needs none. A byte '0' or '1' on standard input is a wish; the driver's answer, its return code, goes back as a byte.
 */
#include <dlfcn.h>
#include <unistd.h>

#define LIBRARY "libnvidia-ml.so.1"
/* nvmlReturn_t: NVML_ERROR_UNKNOWN is 999, and there is none that fits in a byte. */
#define FAILED 255

typedef int (*plain)(void);
typedef int (*with_state)(unsigned);

static int set_ready(unsigned state) {
  void *library = dlopen(LIBRARY, RTLD_NOW);
  if (library == NULL) return FAILED;
  plain init = (plain)dlsym(library, "nvmlInit_v2"), shutdown = (plain)dlsym(library, "nvmlShutdown");
  with_state set = (with_state)dlsym(library, "nvmlSystemSetConfComputeGpusReadyState");
  int code = FAILED;
  if (init != NULL && shutdown != NULL && set != NULL && (code = init()) == 0) {
    code = set(state);
    shutdown();
  }
  dlclose(library);
  return code;
}

int main(void) {
  char wish;
  while (read(STDIN_FILENO, &wish, 1) == 1) {
    if (wish != '0' && wish != '1') return 1;
    int code = set_ready(wish == '1');
    unsigned char answer = code < 0 || code > FAILED ? FAILED : code;
    if (write(STDIN_FILENO, &answer, 1) != 1) return 1;
  }
  return 0;
}
