/**
 * The boot of a worker with a GPU, as one process of the worker's own code: stand-in kernel, stand-in GPU library, the gate. What
 * the GPU library was told is in its own log.
 */
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { vectorPath, withoutVectors } from '../support/vectors.js'
import { compile, inGuest, withoutCompiler } from './native.js'

const absent = withoutCompiler || withoutVectors
const reason = withoutCompiler ? ' (no C compiler here)' : ' (captured evidence is not here)'

const SERVE = `
  const worker = await (await load('enclave/serve.js')).serve({ port: 0 })
  await worker.close()
  return { error: 'none', message: 'it serves' }`

describe.skipIf(absent)(`the boot of a worker with a GPU${absent ? reason : ''}`, () => {
  let folder: string
  let boots = 0
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'subrosa-boot-'))
    await symlink(compile('fake-nvml.c'), join(folder, 'libnvidia-ml.so.1'))
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  async function boot(more: Readonly<Record<string, string>> = {}) {
    const log = join(folder, `${++boots}.log`)
    const seen = await inGuest<{ readonly error: string; readonly message: string }>(SERVE, {
      LD_PRELOAD: compile('fake-guest.c'),
      FAKE_TSM: 'sev_guest',
      FAKE_OUTBLOB: vectorPath('snp', 'genoa-v3-tsm-outblob-report.bin'),
      FAKE_AUXBLOB: vectorPath('snp', 'genoa-v3-tsm-auxblob-cert-table.bin'),
      FAKE_REPORT_DATA: 'echo',
      LD_LIBRARY_PATH: folder,
      FAKE_NVML_DEVICES: vectorPath('nvidia', 'hopper-550-90-07'),
      FAKE_NVML_LOG: log,
      ...more,
    })
    return { ...seen, calls: existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : [] }
  }

  it.each([
    ['a report that was recorded', {}, /answered for the nonce 931d8dd0/, ['persistence', 'report', 'not-ready']],
    [
      'a recorded report with the nonce written over',
      { FAKE_NVML_FAULT: 'echo-nonce' },
      /evidence is rejected: gpu\.report\.signature/,
      ['persistence', 'report', 'not-ready'],
    ],
    ['developer tools', { FAKE_NVML_MODE: '2110' }, /developer tools are on/, ['persistence', 'not-ready']],
    ['confidential mode off', { FAKE_NVML_MODE: '2000' }, /not in confidential mode/, ['persistence', 'not-ready']],
    ['no persistence', { FAKE_NVML_FAULT: 'no-persistence' }, /start nvidia-persistenced/, ['not-ready']],
    ['a driver that counts no GPU', { FAKE_NVML_DEVICES: '' }, /counts 0 GPUs/, []],
  ])('ends with %s, and the GPU was never ready', async (_, change, message, calls) => {
    const seen = await boot(change)
    expect(seen).toMatchObject({ error: 'worker.gpu', message: expect.stringMatching(message) })
    expect(seen.calls).toEqual(calls)
  })

  it('goes on without a GPU, to the next thing that is wrong: the launch was another’s', async () => {
    // A copy of nothing: the library is not there, and neither is the driver.
    const seen = await boot({ LD_LIBRARY_PATH: '/nonexistent' })
    expect(seen).toMatchObject({ error: 'worker.host-data', calls: [] })
  })
})
