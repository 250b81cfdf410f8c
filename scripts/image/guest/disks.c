/*
 * Verified disks. No byte of a disk is parsed before dm-verity has vouched for it: there is no superblock, every parameter
 * but root hash and length is fixed here, and those two come from the measured command line as HASH,BLOCKS.
 */
#include "guest.h"

#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BLOCK_BYTES 4096ULL
#define SECTORS_PER_BLOCK 8ULL
#define HASH_DIGITS 64
/* A disk that has not appeared by then will not. */
#define WAIT_STEPS 200
#define STEP_MICROSECONDS 50000

union request {
  struct dm_ioctl head;
  char bytes[2048];
};

static void prepare(union request *request, const char *name, unsigned flags) {
  memset(request, 0, sizeof *request);
  request->head.version[0] = DM_VERSION_MAJOR;
  request->head.data_size = sizeof *request;
  request->head.data_start = sizeof request->head;
  request->head.flags = flags;
  snprintf(request->head.name, sizeof request->head.name, "%s", name);
}

static void wait_for(const char *path) {
  for (int i = 0; i < WAIT_STEPS; i++) {
    if (access(path, F_OK) == 0) return;
    usleep(STEP_MICROSECONDS);
  }
  stop("disk missing");
}

static unsigned long long block_count(const char *text) {
  char *end;
  if (strlen(text) < HASH_DIGITS + 2 || text[HASH_DIGITS] != ',') stop("verity argument malformed");
  if (strspn(text, "0123456789abcdef") != HASH_DIGITS) stop("verity argument malformed");
  unsigned long long blocks = strtoull(text + HASH_DIGITS + 1, &end, 10);
  /* 16 TiB: far above any model, far below overflow. */
  if (*end != '\0' || blocks == 0 || blocks > (1ULL << 32)) stop("verity argument malformed");
  return blocks;
}

void mount_verified(const char *disk, const char *name, const char *verity, const char *target) {
  union request request;
  char device[64];
  unsigned long long blocks = block_count(verity);
  wait_for(disk);

  int control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
  if (control < 0) stop("device mapper missing");

  prepare(&request, name, DM_READONLY_FLAG);
  if (ioctl(control, DM_DEV_CREATE, &request) != 0) stop("verity device");
  unsigned number = minor(request.head.dev);

  prepare(&request, name, DM_READONLY_FLAG);
  request.head.target_count = 1;
  struct dm_target_spec *spec = (struct dm_target_spec *)(request.bytes + sizeof request.head);
  spec->sector_start = 0;
  spec->length = blocks * SECTORS_PER_BLOCK;
  snprintf(spec->target_type, sizeof spec->target_type, "verity");
  /* Corruption ends the guest: a read error could be waited out and tried again by whoever owns the disk. */
  snprintf((char *)(spec + 1), sizeof request - sizeof request.head - sizeof *spec,
           "1 %s %s 4096 4096 %llu %llu sha256 %.64s - 1 panic_on_corruption", disk, disk, blocks, blocks, verity);
  if (ioctl(control, DM_TABLE_LOAD, &request) != 0) stop("verity table");

  prepare(&request, name, 0);
  if (ioctl(control, DM_DEV_SUSPEND, &request) != 0) stop("verity start");
  close(control);

  snprintf(device, sizeof device, "/dev/dm-%u", number);
  wait_for(device);
  if (mount(device, target, "erofs", MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) != 0) stop("verified mount");
}
