/** The machine a worker serves on, with GPUs: what does not pass the gate is no machine, and the worker says why. */
import { describe, expect, it } from 'vitest'
import { WorkerError } from '../../enclave/errors.js'
import { createLogger } from '../../enclave/log.js'
import { openMachine } from '../../enclave/machine.js'
import type { Nvml } from '../../enclave/platforms/nvml.js'
import type { Platform } from '../../enclave/platforms/platform.js'
import { createRefusalApp } from '../../enclave/refusal-app.js'
import { createSimulatedGpus } from '../../scripts/simulated/gpu-platform.js'
import { utf8 } from '../../verifier/protocol/bytes.js'

const now = new Date('2026-06-01T12:00:00Z')
const cpu: Platform = {
  name: 'stub',
  kind: 'snp',
  simulated: false,
  hostData: new Uint8Array(32),
  attest: async () => new Uint8Array(),
  attestDevices: async () => ({ gpus: [], switches: [] }),
  endorsements: async () => [{ type: 'application/pkix-cert', bytes: utf8('own') }],
}

function machine(nvml: Nvml | undefined, lines: string[] = []) {
  const log = createLogger({ write: (line) => lines.push(line), now: () => now })
  return openMachine({ relays: [], now: () => now, log, detect: async () => cpu, openGpus: async () => nvml })
}

describe('a machine', () => {
  it('without GPUs and relays is what its CPU is', async () => {
    const { platform, close } = await machine(undefined)
    expect(await platform.endorsements()).toEqual(await cpu.endorsements())
    expect(await platform.attestDevices(new Uint8Array(32))).toEqual({ gpus: [], switches: [] })
    await close()
  })

  it('with GPUs that are not NVIDIA’s, or without a relay for their endorsements, is none; the worker says why', async () => {
    const gpus = createSimulatedGpus({ now })
    let ready = true
    const nvml: Nvml = {
      count: 1,
      driverVersion: async () => '550.90.07',
      mode: async () => ({ environment: 'production', confidential: true, devTools: false, multiGpu: 'none' }),
      persistent: async () => true,
      makePersistent: async () => undefined,
      ready: async () => ready,
      async setReady(value) {
        ready = value
      },
      evidence: async (index, nonce) => (await gpus.attest(nonce))[index] ?? new Uint8Array(),
      close: async () => undefined,
    }
    const refusal = await machine(nvml).catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(WorkerError)
    expect(ready).toBe(false)
    const app = createRefusalApp(refusal as WorkerError)
    const prompt = await app.request('/ohttp', { method: 'POST', body: 'a prompt' })
    expect(prompt.status).toBe(503)
    expect(await prompt.json()).toMatchObject({ code: 'worker.gpu', detail: expect.stringMatching(/gpu\.chain\.root/) })
  })

  it('refuses an address of a relay that is none before it asks the hardware', async () => {
    const log = createLogger({ write: () => undefined, now: () => now })
    const asked = openMachine({
      relays: ['relay'],
      now: () => now,
      log,
      detect: () => Promise.reject(new Error('asked')),
    })
    await expect(asked).rejects.toMatchObject({ code: 'worker.option' })
  })
})
