/**
 * The checks that are about a worker's bundle as a whole rather than one vendor's hardware: claims, binding,
 * freshness, keys, reference values, serving. Registry order is the order of appraisal.
 */
import type { CheckDefinition } from './checks.js'
import { releaseChecks } from './release/checks.js'

/** Before the CPU evidence. */
export const BUNDLE_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'bundle.parse',
    title: 'The file is one well-formed evidence bundle with its own digest',
    spec: 'PROTOCOL.md §6',
    gain: 'Ambiguous bytes could mean one thing to this verifier and another to the next.',
    advice: 'fetch the bundle again; it is damaged, altered, or not a bundle',
    malformed: true,
  },
  {
    id: 'claims.parse',
    title: 'The claims have the profile this verifier knows',
    spec: 'PROTOCOL.md §4, RFC 9711 §4.3.2',
    gain: 'Claims nobody understands could say anything.',
    advice: 'use a verifier and a worker of the same protocol version',
    needs: ['bundle.parse'],
    malformed: true,
  },
]

/** After the CPU evidence has been verified. `CPU_SIGNATURE` stands for the vendor's signature check. */
export function claimChecks(cpuSignature: string): readonly CheckDefinition[] {
  return [
    {
      id: 'binding.report-data',
      title: 'The report covers exactly these claims',
      spec: 'PROTOCOL.md P-4.1',
      gain: 'Claims next to a report that does not cover them are an attacker’s own words beside someone else’s proof.',
      advice: 'do not use this worker: its keys are not the ones its hardware vouches for',
      needs: ['claims.parse', cpuSignature],
    },
    {
      id: 'binding.configuration',
      title: 'The host configuration in the claims is the one fixed at launch',
      spec: 'PROTOCOL.md P-4.4',
      gain: 'The host could swap the model volume, the padding or the operator key after launch.',
      needs: ['binding.report-data'],
    },
    {
      id: 'gpu.present',
      title: 'The bundle carries evidence of a GPU',
      spec: 'PROTOCOL.md P-4.3',
      gain: 'Prompts could be computed on by a GPU that anyone on the host can read.',
      advice: 'choose a worker with a GPU in confidential-computing mode, or waive the GPU in your policy (gpu: none)',
      needs: ['claims.parse'],
    },
    {
      id: 'binding.gpu-evidence',
      title: 'The claims list the digest of each device’s evidence, in order',
      spec: 'PROTOCOL.md P-4.3',
      gain: 'GPU evidence of another machine could be put beside this one’s report.',
      needs: ['binding.report-data', 'gpu.present'],
    },
    {
      id: 'binding.nonce',
      title: 'The evidence answers this client’s own nonce',
      spec: 'PROTOCOL.md P-4.5, RFC 9162 §2.1.3.2',
      gain: 'A recording of evidence from a worker that has since been replaced could be played back.',
      advice: 'ask the worker again; if it answers with old evidence again, do not use it',
      needs: ['binding.report-data'],
    },
    {
      id: 'freshness.window',
      title: 'The evidence was issued for this time and for no longer than allowed',
      spec: 'PROTOCOL.md P-4.6',
      gain: 'One report could stand for a worker long after its keys were lost.',
      advice: 'ask for fresh evidence; check this machine’s clock',
      needs: ['binding.report-data'],
    },
    {
      id: 'keys.parse',
      title: 'The bundle carries key configurations this verifier can read',
      spec: 'PROTOCOL.md §5, RFC 9458 §3',
      gain: 'A key of unknown meaning could be used for the wrong thing.',
      needs: ['bundle.parse'],
    },
    {
      id: 'keys.bound',
      title: 'Every key configuration is named by the attested claims',
      spec: 'PROTOCOL.md §4, §5',
      gain: 'The network could put its own key beside genuine evidence and read every prompt.',
      advice: 'do not use this worker: somebody may be replacing its keys on the way to you',
      needs: ['keys.parse', 'binding.report-data'],
    },
    {
      id: 'keys.signature',
      title: 'The attested identity key signed every key configuration and its window',
      spec: 'PROTOCOL.md P-5.2',
      gain: 'A key could be used beyond the time the enclave meant it for.',
      needs: ['keys.bound'],
    },
    {
      id: 'keys.window',
      title: 'A key configuration is current, and none lives longer than allowed',
      spec: 'PROTOCOL.md P-5.1, P-5.2',
      gain: 'Prompts sealed to an old key could be read by whoever obtained it since.',
      needs: ['keys.signature'],
    },
    {
      id: 'keys.suite',
      title: 'A current key configuration has a suite the policy accepts',
      spec: 'PROTOCOL.md P-5.4',
      gain: 'Traffic recorded today under a classical key exchange alone could be read by a future quantum computer.',
      advice: 'choose a worker with MLKEM768-X25519, or accept X25519 in your policy (channel.suites)',
      needs: ['keys.window'],
    },
    {
      id: 'serving.padding',
      title: 'The attested padding mode is one the policy accepts',
      spec: 'PROTOCOL.md P-7.7',
      gain: 'Record sizes would show an observer the length of each token, and with it much of the answer.',
      advice: 'choose a worker that pads, or accept it in your policy (channel.padding)',
      needs: ['binding.report-data'],
    },
    {
      id: 'serving.isolation',
      title: 'The attested isolation between requests is one the policy accepts',
      spec: 'PROTOCOL.md §4',
      gain: 'What is computed for one request could be kept and show, by its timing, in another of the same session.',
      advice: 'choose a worker that isolates every request, or accept sessions in your policy (serving.isolation)',
      needs: ['binding.report-data'],
    },
    {
      id: 'image.digest',
      title: 'The attested image is one the policy names, if it names any',
      spec: 'PROTOCOL.md §4',
      gain: 'A launch digest that several images share would let the provider choose among them.',
      needs: ['binding.report-data'],
    },
    {
      id: 'model.digest',
      title: 'The attested model is one the policy names',
      spec: 'PROTOCOL.md §8',
      gain: 'The provider could serve another model than the one you believe you are asking.',
      advice: 'name the model’s manifest digest in your policy (model.digests), or write model: any',
      needs: ['binding.report-data'],
    },
    {
      id: 'operator.match',
      title: 'An operator the policy names vouches for this machine',
      spec: 'PROTOCOL.md §11',
      gain: 'Anyone who owns a genuine machine could run this worker.',
      needs: ['binding.report-data'],
    },
  ]
}

/** In the plan of a policy that limits the age of what vouches for the evidence. */
export function endorsementAgeCheck(cpuSignature: string): CheckDefinition {
  return {
    id: 'freshness.endorsements',
    title: 'No revocation list, collateral, response or index is older than the policy allows',
    spec: 'PROTOCOL.md §9',
    gain: 'Whoever chooses which endorsements you see could keep a revocation from you for as long as an old list is in force.',
    advice:
      'fetch endorsements again (leave out --offline), or allow more age in your policy (freshness.endorsementSeconds)',
    needs: [cpuSignature],
  }
}

/** Whether the launch digest names software the user knows; the last word on what runs. */
export function softwareCheck(cpuSignature: string): CheckDefinition {
  return {
    id: 'reference.measurement',
    title: 'The launch digest is one of the reference values',
    spec: 'PROTOCOL.md §9',
    gain: 'Genuine hardware would vouch for whatever software an attacker booted on it.',
    advice:
      'give reference values in a policy (measurements or releases), or prove only the hardware with --any-measurement',
    needs: [cpuSignature, ...releaseChecks(cpuSignature).map(({ id }) => id)],
  }
}
