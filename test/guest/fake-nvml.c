/*
 * A stand-in for libnvidia-ml.so.1 that replays recorded GPU evidence; structures as in nvml.h, written from their layout.
 *
 * FAKE_NVML_DEVICES: folders with report.bin and device-chain.pem, joined by ':'. FAKE_NVML_MODE: environment, CC feature,
 * developer tools and multi-GPU mode as four digits; default 2100. FAKE_NVML_LOG: a file that gets the name of every call
 * that changes something or makes evidence. FAKE_NVML_FAULT: one of the names below.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, UNKNOWN = 999 };

struct state { uint32_t environment, feature, tools; };
struct settings { uint32_t version, environment, feature, tools, multi; };
struct certificate { uint32_t size, attestation_size; uint8_t chain[0x1000], attestation[0x1400]; };
struct report {
  uint32_t cec_present, size, cec_size;
  uint8_t nonce[32], bytes[0x2000], cec[0x1000];
};

static uint32_t ready, persistent;
static char folders[4096];
static const char *devices[16];
static uint32_t count;

static const char *setting(const char *name, const char *otherwise) {
  return getenv(name) == NULL ? otherwise : getenv(name);
}
static int fault(const char *name) { return strcmp(setting("FAKE_NVML_FAULT", ""), name) == 0; }
static uint32_t mode(int at) { return setting("FAKE_NVML_MODE", "2100")[at] - '0'; }

static void note(const char *what) {
  const char *path = setting("FAKE_NVML_LOG", "");
  FILE *file = path[0] == '\0' ? NULL : fopen(path, "a");
  if (file == NULL) return;
  fprintf(file, "%s\n", what);
  fclose(file);
}

static uint32_t load(const char *folder, const char *name, uint8_t *out, size_t size) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  if (file == NULL) return 0;
  uint32_t length = fread(out, 1, size, file);
  fclose(file);
  return length;
}

int nvmlInit_v2(void) {
  count = 0;
  snprintf(folders, sizeof folders, "%s", setting("FAKE_NVML_DEVICES", ""));
  for (char *word = strtok(folders, ":"); word != NULL && count < 16; word = strtok(NULL, ":")) devices[count++] = word;
  return fault("not-loaded") ? 9 : SUCCESS;
}
int nvmlShutdown(void) { return SUCCESS; }

int nvmlSystemGetDriverVersion(char *text, uint32_t length) {
  snprintf(text, length, "550.90.07");
  return SUCCESS;
}
int nvmlDeviceGetCount_v2(uint32_t *out) { return *out = count, SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(uint32_t index, const char ***out) {
  if (index >= count) return INVALID_ARGUMENT;
  return *out = &devices[index], SUCCESS;
}
int nvmlDeviceGetPersistenceMode(const char **device, uint32_t *out) {
  (void)device;
  return *out = persistent, SUCCESS;
}
int nvmlDeviceSetPersistenceMode(const char **device, uint32_t value) {
  (void)device;
  if (fault("no-persistence")) return NO_PERMISSION;
  note("persistence");
  return persistent = value, SUCCESS;
}
int nvmlSystemGetConfComputeState(struct state *out) {
  *out = (struct state){mode(0), mode(1), mode(2)};
  return SUCCESS;
}
int nvmlSystemGetConfComputeSettings(struct settings *out) {
  if (fault("old-driver")) return NOT_SUPPORTED;
  if (out->version != (sizeof *out | 1u << 24)) return INVALID_ARGUMENT;
  *out = (struct settings){out->version, mode(0), mode(1), mode(2), mode(3)};
  return SUCCESS;
}
int nvmlSystemGetConfComputeGpusReadyState(uint32_t *out) { return *out = ready, SUCCESS; }
int nvmlSystemSetConfComputeGpusReadyState(uint32_t value) {
  if (fault("not-root")) return NO_PERMISSION;
  note(value == 0 ? "not-ready" : "ready");
  if (!fault("stays-unready")) ready = value;
  return SUCCESS;
}
int nvmlDeviceGetConfComputeGpuCertificate(const char **device, struct certificate *out) {
  out->attestation_size = load(*device, "device-chain.pem", out->attestation, sizeof out->attestation);
  return out->attestation_size == 0 ? NOT_FOUND : SUCCESS;
}
int nvmlDeviceGetConfComputeGpuAttestationReport(const char **device, struct report *out) {
  note("report");
  if (fault("hangs")) sleep(5);
  if (fault("oversize")) return out->size = sizeof out->bytes + 1, SUCCESS;
  out->size = load(*device, "report.bin", out->bytes, sizeof out->bytes);
  if (fault("echo-nonce")) memcpy(out->bytes + 4, out->nonce, sizeof out->nonce);
  return out->size == 0 ? UNKNOWN : SUCCESS;
}
