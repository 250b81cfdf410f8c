/**
 * The gate between a worker and its GPUs: nothing runs on them, and no prompt is taken, before the worker has appraised their
 * evidence itself, under NVIDIA's roots and its own strict policy. The only file of the worker that reaches into the verifier,
 * loaded only where there are GPUs.
 *
 * In order, each step or nothing: not ready, persistence, mode, evidence over a fresh nonce, appraisal, ready. Ready is one
 * state for all GPUs, so all are appraised before any works. A failure leaves them not ready.
 *
 * Endorsements come from outside and are trusted for nothing: without good ones the appraisal lacks an input and fails. The
 * clock they are judged by is the guest's, which the host sets; clients judge the same evidence by their own.
 */
import { Transcript } from '../verifier/checks.js'
import { sortEndorsements } from '../verifier/endorsements.js'
import { type GpuPolicy, STRICT_GPU_POLICY } from '../verifier/gpu/policy.js'
import { type GpuInput, planFor, verifyGpus } from '../verifier/gpu/verify.js'
import type { StapledEndorsement } from '../verifier/protocol/bundle.js'
import type { Bytes } from '../verifier/protocol/bytes.js'
import { WorkerError } from './errors.js'
import type { ConfidentialMode, Nvml } from './platforms/nvml.js'

const NONCE_BYTES = 32

export interface GateOptions {
  readonly nvml: Nvml
  /** Manifests and OCSP responses for this evidence, as far as anybody has them. May fail, which is as good as none. */
  readonly endorsementsFor: (devices: readonly Bytes[]) => Promise<readonly StapledEndorsement[]>
  readonly now: () => Date
  /** How often the appraisal is tried while it only lacks endorsements. Default 5. */
  readonly attempts?: number
  readonly sleep?: (ms: number) => Promise<void>
  /** Default: the strict one. Revocation is always required. */
  readonly policy?: GpuPolicy
  /** Roots besides NVIDIA's, for simulated GPUs in tests. */
  readonly anchors?: GpuInput['anchors']
}

export interface AdmittedGpus {
  readonly count: number
  /** As the driver says it. */
  readonly driver: string
}

const FIRST_PAUSE_MS = 5000

/** @throws WorkerError `worker.gpu`, with the check that stands in the way; the GPUs are then not ready. */
export async function admitGpus(options: GateOptions): Promise<AdmittedGpus> {
  const { nvml } = options
  // Whoever set them ready did not ask this worker.
  if (await nvml.ready()) await nvml.setReady(false)
  for (let index = 0; index < nvml.count; index++) await requirePersistence(nvml, index)
  requireMode(await nvml.mode())
  await appraise(options)
  await nvml.setReady(true)
  if (!(await nvml.ready())) throw new WorkerError('worker.gpu', 'the GPUs were set ready and are not')
  return { count: nvml.count, driver: await nvml.driverVersion() }
}

/** Without it the first program that ends takes the GPU's only start with it. */
async function requirePersistence(nvml: Nvml, index: number): Promise<void> {
  if (await nvml.persistent(index)) return
  try {
    await nvml.makePersistent(index)
  } catch (cause) {
    throw new WorkerError('worker.gpu', `GPU ${index} is not persistent: start nvidia-persistenced before the worker`, {
      cause,
    })
  }
}

function requireMode({ environment, confidential, devTools, multiGpu }: ConfidentialMode): void {
  if (devTools) throw new WorkerError('worker.gpu', 'developer tools are on: the GPU’s memory is not protected')
  if (!confidential && multiGpu !== 'protected-pcie') {
    throw new WorkerError('worker.gpu', 'the GPU is not in confidential mode: set it on the host and reset the GPU')
  }
  if (environment !== 'production') {
    throw new WorkerError('worker.gpu', `the confidential environment is ${environment}, expected production`)
  }
}

/** Evidence and nonce are new at every try: the window of an OCSP response may have passed. */
async function appraise(options: GateOptions): Promise<void> {
  const { attempts = 5, sleep = (ms) => new Promise<void>((resolve) => setTimeout(resolve, ms)) } = options
  for (let attempt = 1; ; attempt++) {
    const { verdict, reason } = await appraiseOnce(options)
    if (verdict === 'accepted') return
    // What is wrong stays wrong; what is missing may come.
    if (verdict !== 'unavailable' || attempt === attempts) {
      throw new WorkerError('worker.gpu', `the GPU’s own evidence is ${verdict}: ${reason}`)
    }
    await sleep(FIRST_PAUSE_MS * 2 ** (attempt - 1))
  }
}

async function appraiseOnce(options: GateOptions): Promise<{ readonly verdict: string; readonly reason: string }> {
  const { nvml, now, policy = STRICT_GPU_POLICY, anchors = [] } = options
  const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES))
  const devices: Bytes[] = []
  for (let index = 0; index < nvml.count; index++) devices.push(await nvml.evidence(index, nonce))
  const stapled = await options.endorsementsFor(devices).catch(() => [])
  const t = new Transcript(planFor({ devices }))
  await verifyGpus(t, {
    devices,
    form: 'container',
    expectedNonce: nonce,
    endorsements: sortEndorsements(stapled.map(({ bytes }, i) => ({ name: `endorsement ${i}`, bytes }))),
    anchors,
    now: now(),
    revocation: 'required',
    // Every GPU the driver has: one that is left out would be ready without having been looked at.
    policy: { ...policy, count: nvml.count },
  })
  const open = t.checks().filter((check) => check.status !== 'pass' && !t.satisfied(check.id))
  const first = open.find(({ status }) => status === 'fail') ?? open[0]
  return { verdict: t.verdict(), reason: first === undefined ? '' : `${first.id}: ${first.reason ?? 'no reason'}` }
}
