/** Warm verification of one GPU's report, its two manifests and the OCSP responses about all of them. */
import { Transcript } from '../../verifier/checks.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { STRICT_GPU_POLICY } from '../../verifier/gpu/policy.js'
import { type GpuInput, planFor, verifyGpus } from '../../verifier/gpu/verify.js'
import { utf8 } from '../../verifier/protocol/bytes.js'
import { parseTrustAnchors } from '../../verifier/trust-anchors.js'
import { createSimulatedGpus } from '../simulated/gpu-platform.js'
import { bareVerifications, forgetSignatures } from './arithmetic.js'
import type { Benchmark, Contest } from './measure.js'

/** Device chain and report, both manifests and their shared chain, six OCSP responses and their responders: what one run asks for. */
const GPU_SIGNATURES = 22

export const GPU_BENCHMARKS: readonly Benchmark[] = [
  {
    name: 'gpu.warm.bare',
    against: `the ${GPU_SIGNATURES} WebCrypto verifications in it alone, keys imported on both sides; simulated H100; ours verifies every signature anew`,
    target: 2,
    rounds: 150,
    prepare: againstBare,
  },
]

async function againstBare(): Promise<Contest> {
  const now = new Date()
  const gpus = createSimulatedGpus({ now })
  const nonce = new Uint8Array(32).fill(7)
  const endorsements = sortEndorsements(gpus.endorsements.map(({ bytes }, i) => ({ name: String(i), bytes })))
  const input: GpuInput = {
    devices: await gpus.attest(nonce),
    expectedNonce: nonce,
    endorsements,
    anchors: parseTrustAnchors(utf8(gpus.rootsPem)),
    now,
    revocation: 'required',
    policy: STRICT_GPU_POLICY,
  }
  const [any] = endorsements.certificates
  if (any === undefined) throw new Error('the simulated GPU staples no certificate')
  const ours = async (): Promise<void> => {
    const t = new Transcript(planFor(input))
    await verifyGpus(t, input)
    if (t.verdict() !== 'accepted') throw new Error(`${t.checks().find(({ status }) => status === 'fail')?.id} fails`)
  }
  const before = () => forgetSignatures(any)
  await ours()
  await before()
  return { ours, before, theirs: await bareVerifications(GPU_SIGNATURES, ours) }
}
