/** JSON-ready descriptions of claims and policies, for results and for people. Bytes become lower-case hex. */
import { type AppraisalPolicy, POLICY_SCHEMA } from './policy.js'
import { toHex } from './protocol/bytes.js'
import type { Claims } from './protocol/statement.js'
import { encodeNoteKey, type NoteKey } from './release/note.js'
import type { ReleasePolicy } from './release/policy.js'

export function describeClaims(claims: Claims): Record<string, unknown> {
  const { statement, fresh } = claims
  return {
    statementDigest: toHex(claims.statementDigest),
    statement: {
      bootId: toHex(statement.bootId),
      keys: { identity: toHex(statement.keys.identity), receipt: toHex(statement.keys.receipt) },
      model: {
        id: statement.model.id,
        weightsRoot: toHex(statement.model.weightsRoot),
        tokenizerDigest: toHex(statement.model.tokenizerDigest),
        templateDigest: toHex(statement.model.templateDigest),
        manifestDigest: toHex(statement.model.manifestDigest),
      },
      runtime: {
        name: statement.runtime.name,
        version: statement.runtime.version,
        engine: statement.runtime.engine,
        ...(statement.runtime.imageDigest === undefined ? {} : { imageDigest: toHex(statement.runtime.imageDigest) }),
      },
      serving: statement.serving,
      configDigest: toHex(statement.configDigest),
      ...(statement.operatorKey === undefined ? {} : { operatorKey: toHex(statement.operatorKey) }),
    },
    fresh: {
      nonceRoot: toHex(fresh.nonceRoot),
      issuedAt: fresh.issuedAt,
      expiresAt: fresh.expiresAt,
      keyConfigurations: fresh.keyConfigurations.map(toHex),
    },
  }
}

/** The policy as applied, in the words of a policy document, every strict value filled in. */
export function describePolicy(policy: AppraisalPolicy): Record<string, unknown> {
  return {
    schema: POLICY_SCHEMA,
    measurements: policy.measurements,
    ...(policy.releases === undefined ? {} : { releases: describeReleases(policy.releases) }),
    trustAnchors: policy.trustAnchors.map(({ kind, spkiSha256Hex }) => ({ kind, spkiSha256: spkiSha256Hex })),
    revocation: policy.revocation,
    snp: policy.snp,
    tdx: policy.tdx,
    gpu: policy.gpu,
    model: policy.model,
    operator: policy.operator,
    image: policy.image,
    channel: policy.channel,
    serving: policy.serving,
    freshness: policy.freshness,
    graces: policy.graces,
    trustOnFirstUse: policy.trustOnFirstUse,
  }
}

function describeReleases({ keys, minVersion, log }: ReleasePolicy): Record<string, unknown> {
  const textOf = ({ name, type, publicKey }: NoteKey) => encodeNoteKey(name, type, publicKey)
  const witnesses = log === 'unlogged' || 'sigstore' in log ? undefined : log.witnesses
  return {
    keys: keys.map(textOf),
    ...(minVersion === undefined ? {} : { minVersion }),
    log:
      log === 'unlogged' || 'sigstore' in log
        ? log
        : {
            key: textOf(log.key),
            ...(witnesses === undefined
              ? {}
              : { witnesses: { keys: witnesses.keys.map(textOf), threshold: witnesses.threshold } }),
          },
  }
}
