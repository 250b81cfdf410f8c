/** Well-formed protocol objects to start from; tests change what they are about. */
import type { Bundle } from '../../verifier/protocol/bundle.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { encodeSignedKeyConfigurations } from '../../verifier/protocol/key-configuration.js'
import {
  encodeClaims,
  encodeCore,
  encodeFresh,
  encodeStatement,
  type Fresh,
  type Statement,
} from '../../verifier/protocol/statement.js'

export const filled = (value: number, length = 32): Bytes => new Uint8Array(length).fill(value)

export const STATEMENT: Statement = {
  bootId: filled(1),
  keys: { identity: filled(2), receipt: filled(3) },
  model: {
    id: 'subrosa-demo',
    weightsRoot: filled(4),
    tokenizerDigest: filled(5),
    templateDigest: filled(6),
    manifestDigest: filled(21),
  },
  runtime: { name: 'subrosa', version: '0.1.0', engine: 'onnxruntime-node 1.30.0 (cpu)', imageDigest: filled(7) },
  serving: { padding: 'tick', retention: 'none', logging: 'metadata', isolation: 'request', keyLifetimeS: 600 },
  configDigest: filled(8),
  operatorKey: filled(9),
}

export const FRESH: Fresh = {
  nonceRoot: filled(10),
  issuedAt: 1_790_000_000,
  expiresAt: 1_790_003_600,
  keyConfigurations: [filled(11)],
}

export const CLAIMS: Bytes = encodeClaims(encodeCore(encodeStatement(STATEMENT), encodeFresh(FRESH)), [filled(12)])

export const BUNDLE: Bundle = {
  claims: CLAIMS,
  cpu: { type: 'application/vnd.amd.sev-snp.report', evidence: filled(13, 1184) },
  gpus: [filled(14, 100)],
  switches: [filled(22, 90)],
  keys: encodeSignedKeyConfigurations([
    { configuration: filled(15, 50), notBefore: 1_790_000_000, notAfter: 1_790_000_600, signature: filled(16, 64) },
  ]),
  nonceProof: { nonce: filled(17), index: 0, size: 2, path: [filled(18)] },
  eventLog: filled(19, 20),
  endorsements: [{ type: 'application/pkix-cert', bytes: filled(20, 30) }],
}
