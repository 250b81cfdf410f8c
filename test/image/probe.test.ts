/** What a guest's probe finds is held to what a guest may have: each thing that is not as it should be is refused by name. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkProbe } from '../../scripts/image/boot-test.js'
import { repository } from '../../scripts/image/places.js'
import type { RunningGuest } from '../../scripts/image/qemu.js'
import type { GuestProbe } from '../../scripts/simulated/guest-probe.js'

const calls = [
  ...readFileSync(join(repository, 'scripts', 'image', 'guest', 'denied.h'), 'utf8').matchAll(/X\(([a-z0-9_]+)\)/g),
].map(([, name]) => name)

const ROOT = '/dev/dm-0 / erofs ro,nosuid,nodev 0 0'
const MODEL = '/dev/dm-1 /model erofs ro,nosuid,nodev 0 0'

const RIGHT: GuestProbe = {
  userId: 1000,
  writableFolders: ['/tmp'],
  listening: ['tcp:8080'],
  shells: [],
  setuid: [],
  denied: [...calls.map((name) => `${name} EPERM`), '/dev/vdb ENOENT'],
  devices: ['null', 'random', 'urandom', 'zero'],
  modules: [],
  mounts: [ROOT, MODEL],
  processes: ['1'],
}

/** On a serial console, whose lines end in CR LF. */
const guest = (probe: GuestProbe): RunningGuest => ({
  url: '',
  serialText: async () => `-----SUBROSA PROBE-----\r\n${JSON.stringify(probe)}\r\n-----END SUBROSA PROBE-----\r\n`,
  ended: () => false,
  end: Promise.resolve({ late: false }),
  stop: async () => undefined,
})

describe('a guest', () => {
  it('passes when everything is as it should be', async () => {
    expect(await checkProbe(guest(RIGHT))).toContain(`${RIGHT.denied.length} calls and devices denied`)
  })

  it.each<[string, Partial<GuestProbe>, RegExp]>([
    [
      'whose model is mounted without dm-verity',
      { mounts: [ROOT, MODEL.replace('dm-1', 'vdb')] },
      /model on dm-verity/,
    ],
    ['whose model can be written', { mounts: [ROOT, MODEL.replace(' ro,', ' rw,')] }, /model on dm-verity/],
    ['with no disk for its model', { mounts: [ROOT] }, /model on dm-verity, got none/],
    ['whose root is mounted without dm-verity', { mounts: [ROOT.replace('dm-0', 'vda'), MODEL] }, /root on dm-verity/],
    ['whose worker is root', { userId: 0 }, /user 1000/],
    ['with another writable folder', { writableFolders: ['/run', '/tmp'] }, /writable folders/],
    ['with another port', { listening: ['tcp:22', 'tcp:8080'] }, /listening ports/],
    ['with a shell', { shells: ['/bin/sh'] }, /shells/],
    ['with a setuid file', { setuid: ['/bin/su'] }, /setuid files/],
    [
      'with a device that opens',
      { denied: [...RIGHT.denied.slice(0, -1), '/dev/vdb ALLOWED'] },
      /devices that are allowed/,
    ],
    ['with a call that fails otherwise', { denied: ['mount EINVAL', ...RIGHT.denied.slice(1)] }, /other than EPERM/],
    ['with a module', { modules: ['vfat'] }, /kernel modules/],
    ['with another device node', { devices: ['mem', ...RIGHT.devices] }, /device nodes/],
  ])('is refused %s', async (_, wrong, said) => {
    await expect(checkProbe(guest({ ...RIGHT, ...wrong }))).rejects.toThrow(said)
  })
})
