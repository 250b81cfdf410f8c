/** Boots of an image on a machine without a TEE: it runs, refuses to serve, and says why; altered inputs do not run. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type BootFiles, kernelHashTable } from '../../verifier/measure/kernel-hashes.js'
import { toBytes } from '../../verifier/protocol/bytes.js'
import { bootOtherDisks } from './boot-verity.js'
import { ask, type GuestMaker, untilAnswering, untilDeadlineOf, withGuest } from './guests.js'
import { expect, type Lane } from './lane.js'
import { bootFilesOf } from './measurements.js'
import type { Guest } from './qemu.js'

/** Lines an image may print: of production none; else init's own, and the worker's log, which has a fixed list of fields. */
const CONSOLE_LINES: Readonly<Record<'production' | 'developer' | 'gpu', RegExp>> = {
  production: /^(?!)/,
  gpu: /^(?!)/,
  // Debian's kernel also complains about machines that are slow or emulated, within its first second, before anything of ours runs.
  developer:
    /^(\[ {4}0\.\d{6}\] [ -~]+|subrosa: [a-z ]+|\{"time":"[^"]+","level":"error","event":"worker\.refused","code":"worker\.no-tee"\})$/,
}
/** A guest that hangs in its firmware shows nothing: it is given this many times the time of those that boot, of which one just did. */
const PATIENCE = 2

export async function bootPlain(
  lane: Lane,
  maker: GuestMaker,
  flavour: 'production' | 'developer' | 'gpu',
): Promise<void> {
  const talks = flavour === 'developer'
  await lane.check(
    `${flavour} image, direct kernel: the worker runs without a TEE, refuses to serve, and says why`,
    () =>
      withGuest(maker.start(`plain-${flavour}`), async (guest) => {
        const ms = await untilAnswering(guest)
        const health = await ask(guest, '/healthz')
        expect(health.status === 200, '/healthz 200', String(health.status))
        const prompt = { method: 'POST', body: 'a prompt' }
        for (const [path, init] of [
          ['/readyz', {}],
          ['/.well-known/attestation', {}],
          ['/.well-known/ohttp-keys', {}],
          ['/ohttp', prompt],
          ['/v1/chat/completions', prompt],
        ] as const) {
          const { status, text } = await ask(guest, path, init)
          expect(status === 503 && text.includes('"worker.no-tee"'), `${path} 503 worker.no-tee`, `${status} ${text}`)
        }
        const lines = (await guest.serialText()).split(/\r?\n/).filter((line) => line !== '')
        const strange = lines.filter((line) => !CONSOLE_LINES[flavour].test(line))
        expect(strange.length === 0, talks ? 'a console of fixed vocabulary' : 'a silent console', strange.join(' | '))
        return `answers after ${(ms / 1000).toFixed(1)} s`
      }),
  )
  await bootOtherDisks(lane, maker, flavour, talks)
}

/** The same under AMD's SEV firmware, which holds kernel, initrd and command line to the hash table of the launch. */
export async function bootUnderFirmware(lane: Lane, maker: GuestMaker): Promise<void> {
  const { folder, scratch } = maker
  const boot = await bootFilesOf(folder)
  const file = join(folder, 'OVMF.amdsev.fd')
  const table = Buffer.from(kernelHashTable(boot))
  let bootMs = 0
  const right = await lane.check('SEV firmware with the hash table of these files: boots', () =>
    withGuest(maker.start('firmware', { firmware: { file, hashTable: table } }), async (guest) => {
      bootMs = await untilAnswering(guest)
      return `answers after ${(bootMs / 1000).toFixed(1)} s`
    }),
  )
  if (!right) return lane.skip('SEV firmware refuses altered files', 'it did not boot the right ones')

  const alteredInitrd = join(scratch, 'initrd-altered.cpio')
  // Zeros after the archive's end, which the kernel skips.
  const initrd = Buffer.concat([Buffer.from(boot.initrd ?? []), Buffer.alloc(512)])
  await writeFile(alteredInitrd, initrd)
  const alteredKernel = join(scratch, 'vmlinuz-altered')
  const kernel = Buffer.from(boot.kernel)
  // The last byte is of the file's checksum (Documentation/arch/x86/boot.rst), which neither firmware nor kernel looks at.
  kernel[kernel.length - 1] = (kernel[kernel.length - 1] ?? 0) ^ 1
  await writeFile(alteredKernel, kernel)
  const commandLine = `${boot.commandLine} extra`
  const changes: readonly (readonly [string, Partial<Guest>, Partial<BootFiles>])[] = [
    ['command line', { commandLine }, { commandLine }],
    ['initrd', { initrd: alteredInitrd }, { initrd: toBytes(new Uint8Array(initrd)) }],
    ['kernel', { kernel: alteredKernel }, { kernel: toBytes(new Uint8Array(kernel)) }],
  ]
  for (const [what, change, files] of changes) {
    const name = what.replace(' ', '-')
    const refusal = `SEV firmware refuses another ${what} before the kernel runs`
    let controlMs = 0
    // The firmware says nothing: that it is the table which keeps these files from running is what the control shows.
    const runs = await lane.check(`control: another ${what} boots with a table of its own`, () =>
      withGuest(
        maker.start(`control-${name}`, {
          ...change,
          firmware: { file, hashTable: Buffer.from(kernelHashTable({ ...boot, ...files })) },
        }),
        async (guest) => {
          controlMs = await untilAnswering(guest)
          return `answers after ${(controlMs / 1000).toFixed(1)} s`
        },
      ),
    )
    if (!runs) {
      lane.skip(refusal, 'it does not boot with a table of its own either')
      continue
    }
    const deadlineMs = Math.ceil(PATIENCE * Math.max(bootMs, controlMs))
    await lane.check(refusal, () =>
      withGuest(
        maker.start(`refused-${name}`, { ...change, firmware: { file, hashTable: table }, deadlineMs }),
        async (guest) => {
          await untilDeadlineOf(guest)
          return `runs, and says nothing in ${(deadlineMs / 1000).toFixed(0)} s, ${PATIENCE} times the slower of what boots`
        },
      ),
    )
  }
}
