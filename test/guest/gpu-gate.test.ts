/** The gate in front of a worker's GPUs: simulated GPUs that pass, and everything that must not. */
import { beforeAll, describe, expect, it } from 'vitest'
import { admitGpus, type GateOptions } from '../../enclave/gpu-gate.js'
import { withGpus } from '../../enclave/gpus.js'
import type { ConfidentialMode, Nvml } from '../../enclave/platforms/nvml.js'
import type { Platform } from '../../enclave/platforms/platform.js'
import { createSimulatedGpus, type SimulatedGpus } from '../../scripts/simulated/gpu-platform.js'
import { type Bytes, utf8 } from '../../verifier/protocol/bytes.js'
import { parseTrustAnchors } from '../../verifier/trust-anchors.js'

const NOW = new Date('2026-06-01T12:00:00Z')
const CONFIDENTIAL: ConfidentialMode = {
  environment: 'production',
  confidential: true,
  devTools: false,
  multiGpu: 'none',
}

let one: SimulatedGpus
let two: SimulatedGpus

beforeAll(() => {
  one = createSimulatedGpus({ count: 1, now: NOW })
  two = createSimulatedGpus({ count: 2, now: NOW })
})

interface Fake extends Nvml {
  /** What changed something or made evidence, in order. */
  readonly calls: string[]
}

function driver(
  gpus: SimulatedGpus,
  change: Partial<Nvml> & { readonly isReady?: boolean; readonly isPersistent?: boolean } = {},
): Fake {
  let ready = change.isReady ?? false
  let persistent = change.isPersistent ?? false
  const calls: string[] = []
  return {
    calls,
    count: gpus.devices.length,
    driverVersion: async () => '550.90.07',
    mode: async () => CONFIDENTIAL,
    persistent: async () => persistent,
    async makePersistent() {
      calls.push('persistence')
      persistent = true
    },
    ready: async () => ready,
    async setReady(value) {
      calls.push(value ? 'ready' : 'not ready')
      ready = value
    },
    async evidence(index, nonce) {
      calls.push('evidence')
      return (await gpus.attest(nonce))[index] as Bytes
    },
    close: async () => undefined,
    ...change,
  }
}

function gate(gpus: SimulatedGpus, nvml: Nvml, change: Partial<GateOptions> = {}): GateOptions {
  return {
    nvml,
    endorsementsFor: async () => gpus.endorsements,
    now: () => NOW,
    anchors: parseTrustAnchors(utf8(gpus.rootsPem)),
    sleep: async () => undefined,
    ...change,
  }
}

describe('the GPU gate', () => {
  it('sets GPUs ready last, after everything else', async () => {
    const nvml = driver(one)
    expect(await admitGpus(gate(one, nvml))).toEqual({ count: 1, driver: '550.90.07' })
    expect(nvml.calls).toEqual(['persistence', 'evidence', 'ready'])
  })

  it('takes back a ready state it did not give, and appraises every GPU', async () => {
    const nvml = driver(two, { isReady: true, isPersistent: true })
    await admitGpus(gate(two, nvml))
    expect(nvml.calls).toEqual(['not ready', 'evidence', 'evidence', 'ready'])
  })

  it.each([
    ['developer tools', { devTools: true }, /developer tools/],
    ['confidential mode off', { confidential: false }, /not in confidential mode/],
    ['a simulated environment', { environment: 'simulation' }, /is simulation, expected production/],
  ])('refuses %s before it asks for evidence', async (_, mode, message) => {
    const nvml = driver(one, { mode: async () => ({ ...CONFIDENTIAL, ...mode }) })
    await expect(admitGpus(gate(one, nvml))).rejects.toThrow(message)
    expect(nvml.calls).toEqual(['persistence'])
  })

  it('refuses a GPU that cannot be made persistent', async () => {
    const nvml = driver(one, { makePersistent: () => Promise.reject(new Error('no permission')) })
    await expect(admitGpus(gate(one, nvml))).rejects.toThrow(/nvidia-persistenced/)
  })

  it('refuses evidence that was recorded', async () => {
    const [recorded] = await one.attest(new Uint8Array(32))
    const nvml = driver(one, { evidence: async () => recorded as Bytes })
    await expect(admitGpus(gate(one, nvml))).rejects.toThrow(/rejected: gpu\.nonce\.match/)
  })

  it('refuses a GPU that is counted twice', async () => {
    const nvml = driver(two, { evidence: async (_, nonce) => (await two.attest(nonce))[0] as Bytes })
    await expect(admitGpus(gate(two, nvml))).rejects.toThrow(/rejected: gpu\./)
    expect(nvml.calls).toEqual(['persistence'])
  })

  it('trusts NVIDIA’s roots and no others', async () => {
    const nvml = driver(one)
    await expect(admitGpus(gate(one, nvml, { anchors: [] }))).rejects.toThrow(/rejected: gpu\.chain\.root/)
    expect(nvml.calls).not.toContain('ready')
  })

  it('waits for endorsements, and refuses when they do not come', async () => {
    let asked = 0
    const pauses: number[] = []
    const late = gate(one, driver(one), {
      endorsementsFor: async () => (++asked < 3 ? Promise.reject(new Error('no relay')) : one.endorsements),
      sleep: async (ms) => void pauses.push(ms),
    })
    await admitGpus(late)
    expect(pauses).toEqual([5000, 10_000])
    const nvml = driver(one)
    await expect(admitGpus(gate(one, nvml, { endorsementsFor: async () => [] }))).rejects.toThrow(
      /is unavailable: gpu\./,
    )
    expect(nvml.calls).not.toContain('ready')
  })

  it('requires revocation data', async () => {
    const withoutOcsp = one.endorsements.filter(({ type }) => type !== 'application/ocsp-response')
    const refused = admitGpus(gate(one, driver(one), { endorsementsFor: async () => withoutOcsp }))
    await expect(refused).rejects.toThrow(/unavailable: gpu\..*(ocsp|revocation)/)
  })

  it('notices a ready state that does not stick', async () => {
    const nvml = driver(one, { setReady: async () => undefined })
    await expect(admitGpus(gate(one, nvml))).rejects.toThrow(/were set ready and are not/)
  })
})

describe('the platform with its GPUs', () => {
  const cpu: Platform = {
    name: 'stub',
    kind: 'snp',
    simulated: false,
    hostData: new Uint8Array(32),
    attest: async () => new Uint8Array(),
    attestDevices: async () => ({ gpus: [], switches: [] }),
    endorsements: async () => [],
  }

  it('asks every GPU for evidence over each nonce', async () => {
    const nvml = driver(two)
    const platform = await withGpus(cpu, {
      nvml,
      endorsementsFor: async () => two.endorsements,
      now: () => NOW,
      gate: { admitGpus: (options) => admitGpus({ ...gate(two, nvml), ...options }) },
    })
    expect((await platform.attestDevices(new Uint8Array(32))).gpus).toHaveLength(2)
  })

  it('has no GPUs that did not pass, and leaves them not ready', async () => {
    const nvml = driver(one, { isReady: true })
    // Under NVIDIA's own roots a simulated GPU never passes.
    const refused = withGpus(cpu, { nvml, endorsementsFor: async () => one.endorsements, now: () => NOW })
    await expect(refused).rejects.toMatchObject({ code: 'worker.gpu' })
    expect(await nvml.ready()).toBe(false)
  })
})
