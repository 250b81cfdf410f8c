/*
 * A SIMULATED GPU for ONNX Runtime's CUDA provider: the part of the CUDA 13 runtime that a session calls to find a device, to
 * get memory, to copy and to launch. It computes nothing. Its memory is reserved without any access, so whoever touches it
 * from the host instead of asking for a copy ends the process. test/inference/cuda-provider.test.ts adds the functions
 * that are named but not defined here, each of which does nothing and returns success.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HOST_TO_DEVICE = 1, DEVICE_TO_HOST = 2, DEVICE_TO_DEVICE = 3 };
enum { SUCCESS = 0, OUT_OF_MEMORY = 2, MEMORY_OF_HOST = 1, MEMORY_OF_DEVICE = 2 };

/* Bytes copied of each kind, then launches: in a file, COUNTS, for the test to read. */
static uint64_t nowhere[9], *counts = nowhere;
static char *lowest = (char *)UINTPTR_MAX, *highest;

__attribute__((constructor)) static void begin(void) {
  int file = open(COUNTS, O_RDWR);
  void *shared = mmap(NULL, sizeof nowhere, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (shared != MAP_FAILED) counts = shared;
}

int cudaGetDeviceCount(int *count) { *count = 1; return SUCCESS; }
int cudaGetDevice(int *device) { *device = 0; return SUCCESS; }
int cudaDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
int cudaRuntimeGetVersion(int *version) { *version = 13000; return SUCCESS; }

/* struct cudaDeviceProp of CUDA 13 (driver_types.h): 1008 bytes, the members that matter by their offsets. */
int cudaGetDeviceProperties(char *properties, int device) {
  (void)device;
  memset(properties, 0, 1008);
  strcpy(properties, "SIMULATED");
  size_t memory = (size_t)80 << 30, shared = 48 << 10, shared_whole = 228 << 10, shared_most = 227 << 10;
  memcpy(properties + 288, &memory, sizeof memory);
  memcpy(properties + 296, &shared, sizeof shared);
  memcpy(properties + 624, &shared_whole, sizeof shared_whole);
  memcpy(properties + 672, &shared_most, sizeof shared_most);
  static const struct { int at, value; } members[] = {
    { 304, 65536 }, { 308, 32 }, { 320, 1024 }, { 324, 1024 }, { 328, 1024 }, { 332, 64 }, { 336, 0x7fffffff },
    { 340, 65535 }, { 344, 65535 }, { 360, 9 }, { 364, 0 }, { 384, 132 }, { 596, 50 << 20 }, { 604, 2048 }, { 632, 65536 },
  };
  for (size_t i = 0; i < sizeof members / sizeof *members; i++)
    memcpy(properties + members[i].at, &members[i].value, sizeof(int));
  return SUCCESS;
}

/* enum cudaDeviceAttr, by number. */
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
  (void)device;
  switch (attribute) {
    case 1: *value = 1024; break;
    case 8: *value = 48 << 10; break;
    case 10: *value = 32; break;
    case 16: *value = 132; break;
    case 39: *value = 2048; break;
    case 75: *value = 9; break;
    case 76: *value = 0; break;
    case 97: *value = 227 << 10; break;
    default: *value = 1;
  }
  return SUCCESS;
}

int cudaMalloc(void **out, size_t length) {
  char *memory = mmap(NULL, length + 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return OUT_OF_MEMORY;
  if (memory < lowest) lowest = memory;
  if (memory + length > highest) highest = memory + length;
  *out = memory;
  return SUCCESS;
}
int cudaMallocFromPoolAsync(void **out, size_t length, void *pool, void *stream) {
  (void)pool;
  (void)stream;
  return cudaMalloc(out, length);
}
int cudaMallocHost(void **out, size_t length) { *out = calloc(1, length); return *out ? SUCCESS : OUT_OF_MEMORY; }
int cudaHostAlloc(void **out, size_t length, unsigned flags) { (void)flags; return cudaMallocHost(out, length); }
int cudaFreeHost(void *memory) { free(memory); return SUCCESS; }
int cudaMemGetInfo(size_t *available, size_t *total) {
  *available = (size_t)79 << 30;
  *total = (size_t)80 << 30;
  return SUCCESS;
}
int cudaPointerGetAttributes(char *attributes, const char *pointer) {
  /* struct cudaPointerAttributes: type, device, devicePointer, hostPointer. */
  memset(attributes, 0, 24);
  int type = pointer >= lowest && pointer < highest ? MEMORY_OF_DEVICE : MEMORY_OF_HOST;
  memcpy(attributes, &type, sizeof type);
  memcpy(attributes + 8, &pointer, sizeof pointer);
  return SUCCESS;
}

int cudaMemcpy(void *to, const void *from, size_t length, int kind) {
  counts[kind & 7] += length;
  if (kind == DEVICE_TO_HOST) memset(to, 0, length);
  else if (kind != HOST_TO_DEVICE && kind != DEVICE_TO_DEVICE) memmove(to, from, length);
  return SUCCESS;
}
int cudaMemcpyAsync(void *to, const void *from, size_t length, int kind, void *stream) {
  (void)stream;
  return cudaMemcpy(to, from, length, kind);
}

static void *handle = &handle;
int cudaStreamCreate(void **out) { *out = handle; return SUCCESS; }
int cudaStreamCreateWithFlags(void **out, unsigned flags) { (void)flags; *out = handle; return SUCCESS; }
int cudaStreamIsCapturing(void *stream, int *status) { (void)stream; *status = 0; return SUCCESS; }
int cudaEventCreate(void **out) { *out = handle; return SUCCESS; }
int cudaEventCreateWithFlags(void **out, unsigned flags) { (void)flags; *out = handle; return SUCCESS; }
int cudaMemPoolCreate(void **out, const void *properties) { (void)properties; *out = handle; return SUCCESS; }

int cudaFuncGetAttributes(char *attributes, const void *function) {
  /* struct cudaFuncAttributes: maxThreadsPerBlock at 24, numRegs at 28. */
  (void)function;
  int most = 1024, registers = 32;
  memcpy(attributes + 24, &most, sizeof most);
  memcpy(attributes + 28, &registers, sizeof registers);
  return SUCCESS;
}
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks) { *blocks = 1; return SUCCESS; }
int cudaLaunchKernel(void) { counts[8]++; return SUCCESS; }
int __cudaLaunchKernel(void) { counts[8]++; return SUCCESS; }
int cudaLaunchKernelExC(void) { counts[8]++; return SUCCESS; }
int cudaLaunchCooperativeKernel(void) { counts[8]++; return SUCCESS; }
int __cudaGetKernel(void **kernel, const void *function) { *kernel = (void *)function; return SUCCESS; }
void **__cudaRegisterFatBinary(void *binary) { (void)binary; return &handle; }
int __cudaPushCallConfiguration(void) { return SUCCESS; }
int __cudaPopCallConfiguration(uint32_t *grid, uint32_t *block, size_t *shared, void **stream) {
  for (int i = 0; i < 3; i++) grid[i] = block[i] = 1;
  *shared = 0;
  *stream = NULL;
  return SUCCESS;
}
const char *cudaGetErrorName(int error) { (void)error; return "SIMULATED"; }
const char *cudaGetErrorString(int error) { (void)error; return "SIMULATED"; }
