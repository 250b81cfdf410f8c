/**
 * Operator statements (PROTOCOL.md §11): an operator's signed word that it checked the machine behind one boot's identity key.
 * Report fields alone say nothing about who operates; only such a statement, by a key the policy names, does.
 */
import { type Bytes, concat } from './bytes.js'
import { CborFields, type CborKey, type CborValue, decodeCbor, domain, encodeCbor } from './cbor.js'
import { DOMAIN_OPERATOR } from './constants.js'

export interface OperatorStatement {
  /** Seconds since the epoch, on the operator's clock. */
  readonly issuedAt: number
  /** Identity key of the boot vouched for, 32 bytes. */
  readonly identity: Bytes
  /** CHIP_ID (SNP, 64 bytes) or PPID (TDX, 16 bytes). */
  readonly platform: Bytes
  /** The operator's Ed25519 public key, 32 bytes. */
  readonly key: Bytes
  /** Ed25519, 64 bytes. */
  readonly signature: Bytes
}

/** What is signed: label ‖ 0x00 ‖ CBOR [issued_at, identity, platform]. */
export function operatorMessage(statement: Pick<OperatorStatement, 'issuedAt' | 'identity' | 'platform'>): Bytes {
  return concat(domain(DOMAIN_OPERATOR), encodeCbor([statement.issuedAt, statement.identity, statement.platform]))
}

export function encodeOperatorStatement(statement: OperatorStatement): Bytes {
  const inner = new Map<CborKey, CborValue>([
    ['issued_at', statement.issuedAt],
    ['identity', statement.identity],
    ['platform', statement.platform],
  ])
  return encodeCbor(
    new Map<CborKey, CborValue>([
      ['statement', inner],
      ['key', statement.key],
      ['signature', statement.signature],
    ]),
  )
}

/** @throws FormatError on anything but one well-formed statement. Nothing is verified. */
export function parseOperatorStatement(bytes: Uint8Array): OperatorStatement {
  const outer = new CborFields(decodeCbor(bytes, 4096), 'operator statement')
  const inner = outer.map('statement')
  const statement: OperatorStatement = {
    issuedAt: inner.uint('issued_at'),
    identity: inner.bytes('identity', 32),
    platform: inner.bytes('platform'),
    key: outer.bytes('key', 32),
    signature: outer.bytes('signature', 64),
  }
  inner.end()
  outer.end()
  return statement
}
