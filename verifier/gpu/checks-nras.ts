/** Checks of an answer by NVIDIA's remote verifier. */
import type { CheckDefinition } from '../checks.js'

const NRAS = 'NVIDIA NRAS v3, v4'
const PARSED = ['gpu.nras.parse']
const SIGNED = ['gpu.nras.signature']

export const NRAS_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'gpu.nras.parse',
    title: 'the file is one overall token and one token for each device',
    spec: `${NRAS} response; RFC 7515 §7.1`,
    gain: 'Ambiguous text could mean one thing to this verifier and another to the next.',
    malformed: true,
  },
  {
    id: 'gpu.nras.trusted',
    title: 'the policy accepts NVIDIA’s remote verifier at all',
    spec: 'PROTOCOL.md §9',
    gain: 'A vendor’s verdict would stand in for the evidence without anybody having decided so.',
    advice: 'verify the evidence itself, or name the remote verifier in your policy (nras)',
    needs: PARSED,
  },
  {
    id: 'gpu.nras.algorithm',
    title: 'every token says it is signed with ES384',
    spec: 'RFC 7518 §3.4, RFC 8725 §3.1',
    gain: 'Whoever wrote the token could choose how it is checked, or that it is not.',
    needs: PARSED,
  },
  {
    id: 'gpu.nras.key',
    title: 'the key every token names is in the key set',
    spec: 'RFC 7517 §4.5',
    gain: 'Tokens signed by nobody known would pass.',
    advice: 'store the key set with the tokens: NVIDIA’s keys live about two days',
    needs: PARSED,
  },
  {
    id: 'gpu.nras.key-chain',
    title: 'a pinned intermediate certified every key the tokens use',
    spec: 'RFC 7517 §4.7; NVIDIA Attestation Service certificates',
    gain: 'Whoever hands over the key set could put in a key of their own.',
    needs: ['gpu.nras.trusted', 'gpu.nras.key'],
  },
  {
    id: 'gpu.nras.key-window',
    title: 'the keys’ certificates are valid at the time of appraisal',
    spec: 'RFC 5280 §4.1.2.5',
    gain: 'Keys that were given up could go on signing.',
    needs: ['gpu.nras.key'],
  },
  {
    id: 'gpu.nras.signature',
    title: 'every token is signed by the key it names',
    spec: 'RFC 7515 §5.2',
    gain: 'Anyone could write a verdict.',
    needs: ['gpu.nras.algorithm', 'gpu.nras.key'],
  },
  {
    id: 'gpu.nras.issuer',
    title: 'every token is NVIDIA’s remote verifier’s',
    spec: 'RFC 8725 §3.8',
    gain: 'A token another service of the same maker issued could be shown instead.',
    needs: SIGNED,
  },
  {
    id: 'gpu.nras.window',
    title: 'every token is in force at the time of appraisal',
    spec: 'RFC 7519 §4.1.4, §4.1.5',
    gain: 'An old verdict could be shown for ever.',
    needs: SIGNED,
  },
  {
    id: 'gpu.nras.nonce',
    title: 'every token answers the challenge that was expected',
    spec: 'RFC 9711 §4.1 eat_nonce; PROTOCOL.md P-4.3',
    gain: 'A verdict about another worker’s GPU could be shown.',
    needs: SIGNED,
  },
  {
    id: 'gpu.nras.overall',
    title: 'the overall result is true',
    spec: `${NRAS} x-nvidia-overall-att-result`,
    gain: 'A refusal is signed just as a verdict is, and would be taken for one.',
    needs: SIGNED,
  },
  {
    id: 'gpu.nras.submodules',
    title: 'the device tokens are exactly those whose digests the overall token names',
    spec: 'RFC 9711 §4.2.18 submods, detached digests',
    gain: 'The token of a device that failed could be replaced with another’s.',
    needs: SIGNED,
  },
  {
    id: 'gpu.nras.errors',
    title: 'no device token reports an error',
    spec: `${NRAS} x-nvidia-error-details`,
    gain: 'A device that was never judged would count as judged.',
    needs: SIGNED,
  },
  {
    id: 'gpu.nras.devices',
    title: 'every device token says that every single step succeeded',
    spec: `${NRAS} claims 2.0, 3.0`,
    gain: 'The overall result alone does not say what was looked at.',
    needs: SIGNED,
  },
  {
    id: 'gpu.nras.distinct',
    title: 'every device token is about another device',
    spec: 'RFC 9711 §4.2.1 ueid',
    gain: 'One GPU’s verdict could be shown several times.',
    needs: SIGNED,
  },
  {
    id: 'gpu.nras.count',
    title: 'there are as many device tokens as the policy expects',
    spec: 'PROTOCOL.md §9',
    gain: 'A host could leave out the GPU it tampered with.',
    needs: SIGNED,
  },
]
