/** The management library's binding against a stand-in that replays recorded evidence (fake-nvml.c). */
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openNvml } from '../../enclave/platforms/nvml.js'
import { fromHex, toHex } from '../../verifier/protocol/bytes.js'
import { parseGpuEvidence } from '../../verifier/protocol/gpu-evidence.js'
import { vectorPath, withoutVectors } from '../support/vectors.js'
import { compile, inGuest, withoutCompiler } from './native.js'

const reason = withoutCompiler ? ' (no C compiler here)' : ' (captured evidence is not here)'
const absent = withoutCompiler || withoutVectors
const NONCE = '931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb'

interface Seen {
  readonly count: number
  readonly driver: string
  readonly mode: Readonly<Record<string, unknown>>
  readonly ready: readonly boolean[]
  readonly persistent: readonly boolean[]
  readonly evidence: string
  readonly error?: string
  readonly message?: string
}

const withNvml = (body: string): string => `
  const nvml = await (await load('enclave/platforms/nvml.js')).openNvml({
    library: process.env.FAKE_NVML, timeoutMs: Number(process.env.FAKE_TIMEOUT_MS ?? 30_000) })
  ${body}`

const EVERYTHING = withNvml(`
  const before = [await nvml.ready(), await nvml.persistent(0)]
  await nvml.makePersistent(0)
  await nvml.setReady(true)
  const out = { count: nvml.count, driver: await nvml.driverVersion(), mode: await nvml.mode(),
    ready: [before[0], await nvml.ready()], persistent: [before[1], await nvml.persistent(0)],
    evidence: await nvml.evidence(0, new Uint8Array(Buffer.from('${NONCE}', 'hex'))) }
  await nvml.close()
  return out`)

function gpus(more: Readonly<Record<string, string>> = {}): Record<string, string> {
  return { FAKE_NVML: compile('fake-nvml.c'), FAKE_NVML_DEVICES: vectorPath('nvidia', 'hopper-550-90-07'), ...more }
}

describe.skipIf(absent)(`NVML${absent ? reason : ''}`, () => {
  it('reads mode and state, sets them, and returns recorded evidence to the byte', async () => {
    const seen = await inGuest<Seen>(EVERYTHING, gpus())
    expect(seen).toMatchObject({
      count: 1,
      driver: '550.90.07',
      mode: { environment: 'production', confidential: true, devTools: false, multiGpu: 'none' },
      ready: [false, true],
      persistent: [false, true],
    })
    const { report, chain } = parseGpuEvidence(fromHex(seen.evidence))
    expect(toHex(report)).toBe(readFileSync(vectorPath('nvidia', 'hopper-550-90-07', 'report.bin')).toString('hex'))
    expect(chain).toHaveLength(5)
  })

  it.each([
    ['2000', { environment: 'production', confidential: false, devTools: false, multiGpu: 'none' }],
    ['1110', { environment: 'simulation', confidential: true, devTools: true, multiGpu: 'none' }],
    ['2001', { environment: 'production', confidential: false, devTools: false, multiGpu: 'protected-pcie' }],
    ['2102', { environment: 'production', confidential: true, devTools: false, multiGpu: 'other' }],
    ['9120', { environment: 'unknown', confidential: true, devTools: true, multiGpu: 'none' }],
  ])('tells the mode %s', async (mode, expected) => {
    const seen = await inGuest<Seen>(withNvml('return { mode: await nvml.mode() }'), gpus({ FAKE_NVML_MODE: mode }))
    expect(seen.mode).toEqual(expected)
  })

  it('asks a driver without settings for its state', async () => {
    const seen = await inGuest<Seen>(
      withNvml('return { mode: await nvml.mode() }'),
      gpus({ FAKE_NVML_FAULT: 'old-driver' }),
    )
    expect(seen.mode).toMatchObject({ confidential: true, multiGpu: 'none' })
  })

  const evidence = (nonce: string): string =>
    withNvml(`return { evidence: await nvml.evidence(0, new Uint8Array(Buffer.from('${nonce}', 'hex'))) }`)

  it.each([
    ['a report over another nonce', '07'.repeat(32), {}, /answered for the nonce 931d8dd0/],
    ['a size beyond the buffer', NONCE, { FAKE_NVML_FAULT: 'oversize' }, /8193 bytes/],
    ['no certificates', NONCE, { FAKE_NVML_DEVICES: '/nonexistent' }, /nvmlDeviceGetConfComputeGpu.*unknown failure/],
    ['no answer', NONCE, { FAKE_NVML_FAULT: 'hangs', FAKE_TIMEOUT_MS: '500' }, /no answer within 500 ms/],
  ])('refuses %s', async (_, nonce, more, message) => {
    const seen = await inGuest<Seen>(evidence(nonce), gpus(more))
    expect(seen).toMatchObject({ error: 'worker.gpu' })
    expect(seen.message).toMatch(message)
  })

  it('leaves the ready state to its keeper where there is one, and takes the keeper’s code for the driver’s', async () => {
    const asked = (code: number): string => `
      const asked = []
      const nvml = await (await load('enclave/platforms/nvml.js')).openNvml({
        library: process.env.FAKE_NVML, setReady: async (ready) => { asked.push(ready); return ${code} } })
      await nvml.setReady(true)
      return { asked, ready: [await nvml.ready()] }`
    expect(await inGuest(asked(0), gpus())).toEqual({ asked: [true], ready: [false] })
    expect(await inGuest<Seen>(asked(4), gpus())).toMatchObject({
      error: 'worker.gpu',
      message: expect.stringMatching(/nvmlSystemSetConfComputeGpusReadyState: /),
    })
  })

  it('does not take a driver without GPUs, or one that fails, for a machine without GPUs', async () => {
    const none = await inGuest<Seen>(EVERYTHING, gpus({ FAKE_NVML_DEVICES: '' }))
    expect(none).toMatchObject({ error: 'worker.gpu', message: expect.stringMatching(/counts 0 GPUs/) })
    const broken = await inGuest<Seen>(EVERYTHING, gpus({ FAKE_NVML_FAULT: 'not-loaded' }))
    expect(broken).toMatchObject({ error: 'worker.gpu', message: expect.stringMatching(/driver is not loaded/) })
  })
})

describe.skipIf(absent)(`what doctor is told of GPUs${absent ? reason : ''}`, () => {
  const facts = `return (await (await load('enclave/gpu-facts.js')).readGpuFacts()) ?? { count: 0 }`

  it('comes from the library the system would load', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'subrosa-nvml-'))
    await symlink(compile('fake-nvml.c'), join(folder, 'libnvidia-ml.so.1'))
    const seen = await inGuest<Seen>(facts, gpus({ LD_LIBRARY_PATH: folder }))
    expect(seen).toMatchObject({ count: 1, driver: '550.90.07', ready: false, persistent: false })
    await rm(folder, { recursive: true })
  })
})

describe('a machine without NVML', () => {
  const library = 'libsubrosa-no-such-library.so.1'

  it('has no GPUs where the driver is not loaded either, and is broken where it is', async () => {
    expect(await openNvml({ library, driverLoaded: false })).toBeUndefined()
    await expect(openNvml({ library, driverLoaded: true })).rejects.toMatchObject({ code: 'worker.gpu' })
  })
})
