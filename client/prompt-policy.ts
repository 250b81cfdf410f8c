/** What a policy must say before a prompt is sent under it, and which key configurations it then allows to seal to. */
import { UsageError } from '../verifier/errors.js'
import { type AppraisalPolicy, resolvePolicy } from '../verifier/policy.js'
import type { Bytes } from '../verifier/protocol/bytes.js'
import {
  parseSignedKeyConfigurations,
  type SignedKeyConfiguration,
  verifyKeyConfiguration,
} from '../verifier/protocol/key-configuration.js'
import { parseKeyConfiguration, suiteNameOf } from '../verifier/protocol/ohttp-keys.js'
import type { VerifiedWorker } from '../verifier/result.js'
import type { ConnectOptions } from './session.js'

/** @throws UsageError on a policy that cannot protect a prompt. */
export function promptPolicy(option: ConnectOptions['policy']): AppraisalPolicy {
  if (option !== undefined && (typeof option !== 'object' || option === null)) {
    throw new UsageError(
      'client.policy',
      `policy: expected a document ({ schema: 'subrosa-policy/1', … }), got ${option === null ? 'null' : typeof option}`,
    )
  }
  const policy =
    option !== undefined && 'resolved' in option
      ? option.resolved
      : resolvePolicy(option ?? { schema: 'subrosa-policy/1' })
  if (policy.revocation === 'off') {
    throw new UsageError('client.revocation-off', 'revocation: off is for auditing archives; nothing is sent under it')
  }
  if (policy.measurements === 'any' && policy.trustAnchors.length === 0) {
    throw new UsageError(
      'client.any-measurement',
      'measurements: any leaves the software unidentified; to send prompts it needs a private or simulated trust anchor',
    )
  }
  return policy
}

/**
 * Those configurations of a list that the attested identity key signed, of a suite and lifetime the policy accepts.
 * @throws FormatError when the list is not one.
 */
export async function acceptedKeys(
  bytes: Bytes,
  { statement, statementDigest }: VerifiedWorker,
  policy: AppraisalPolicy,
): Promise<SignedKeyConfiguration[]> {
  const limit = Math.min(policy.freshness.keySeconds, statement.serving.keyLifetimeS)
  const accepted: SignedKeyConfiguration[] = []
  for (const signed of parseSignedKeyConfigurations(bytes)) {
    const suite = suiteNameOf(parseKeyConfiguration(signed.configuration))
    const short = signed.notAfter - signed.notBefore <= limit
    if (suite === undefined || !policy.channel.suites.includes(suite) || !short) continue
    if (await verifyKeyConfiguration(statement.keys.identity, statementDigest, signed)) accepted.push(signed)
  }
  return accepted
}
