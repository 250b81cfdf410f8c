/**
 * What a receipt says (PROTOCOL.md §10): the payload both ends agree on, and how its commitments are made. Signing is the
 * worker's, checking is `verifier/receipt.ts`.
 */
import { FormatError } from './errors.js'

export const RECEIPT_TYPE = 'subrosa-receipt+jwt'
/** Inner trailer that carries the compact JWS. */
export const RECEIPT_TRAILER = 'subrosa-receipt'
/** Labels under which the two 32-byte commitment salts are exported from the request's HPKE context. */
export const RECEIPT_REQUEST_SALT = 'subrosa receipt request'
export const RECEIPT_RESPONSE_SALT = 'subrosa receipt response'

/** Binary members are base64url without padding. */
export interface ReceiptPayload {
  /** 16 random bytes. */
  readonly jti: string
  /** Seconds since the epoch on the worker's clock. */
  readonly iat: number
  /** SHA-256(statement), 32 bytes. */
  readonly stmt: string
  /** SHA-256(key configuration), 32 bytes. */
  readonly key: string
  readonly req: { readonly commit: string }
  /** `chunks`: records written before the trailer; `final`: whether the answer ran to its end. */
  readonly res: { readonly commit: string; readonly chunks: number; readonly final: boolean }
  readonly model: {
    readonly id: string
    readonly weights: string
    readonly tokenizer: string
    readonly template: string
  }
  readonly sampling: Readonly<Record<string, number | readonly string[] | null>>
  readonly seed: number | null
  readonly determinism: 'batch-invariant' | 'single' | 'none'
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number; readonly total_tokens: number }
  readonly price: { readonly amount: string; readonly currency: string } | null
  readonly session: string | null
  readonly seq: number | null
  readonly prev: string | null
}

/** @throws FormatError unless the value has the members of a receipt, of the right types. Unknown members are kept out. */
export function parseReceiptPayload(value: unknown): ReceiptPayload {
  const root = object(value, 'receipt')
  const req = object(root['req'], 'receipt: req')
  const res = object(root['res'], 'receipt: res')
  const model = object(root['model'], 'receipt: model')
  const usage = object(root['usage'], 'receipt: usage')
  const determinism = text(root['determinism'], 'determinism')
  if (determinism !== 'batch-invariant' && determinism !== 'single' && determinism !== 'none') {
    throw new FormatError('receipt.member', 'receipt: determinism: unknown class')
  }
  if (typeof res['final'] !== 'boolean')
    throw new FormatError('receipt.member', 'receipt: res.final: expected true or false')
  return {
    jti: text(root['jti'], 'jti'),
    iat: integer(root['iat'], 'iat'),
    stmt: text(root['stmt'], 'stmt'),
    key: text(root['key'], 'key'),
    req: { commit: text(req['commit'], 'req.commit') },
    res: {
      commit: text(res['commit'], 'res.commit'),
      chunks: integer(res['chunks'], 'res.chunks'),
      final: res['final'],
    },
    model: {
      id: text(model['id'], 'model.id'),
      weights: text(model['weights'], 'model.weights'),
      tokenizer: text(model['tokenizer'], 'model.tokenizer'),
      template: text(model['template'], 'model.template'),
    },
    sampling: object(root['sampling'], 'receipt: sampling') as ReceiptPayload['sampling'],
    seed: nullable(root['seed'], (v) => integer(v, 'seed')),
    determinism,
    usage: {
      prompt_tokens: integer(usage['prompt_tokens'], 'usage.prompt_tokens'),
      completion_tokens: integer(usage['completion_tokens'], 'usage.completion_tokens'),
      total_tokens: integer(usage['total_tokens'], 'usage.total_tokens'),
    },
    price: nullable(root['price'], (v) => {
      const price = object(v, 'receipt: price')
      return { amount: text(price['amount'], 'price.amount'), currency: text(price['currency'], 'price.currency') }
    }),
    session: nullable(root['session'], (v) => text(v, 'session')),
    seq: nullable(root['seq'], (v) => integer(v, 'seq')),
    prev: nullable(root['prev'], (v) => text(v, 'prev')),
  }
}

function object(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new FormatError('receipt.member', `${what}: expected an object`)
  }
  return value as Record<string, unknown>
}

function text(value: unknown, what: string): string {
  if (typeof value !== 'string') throw new FormatError('receipt.member', `receipt: ${what}: expected text`)
  return value
}

function integer(value: unknown, what: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) {
    throw new FormatError('receipt.member', `receipt: ${what}: expected an integer`)
  }
  return value
}

function nullable<T>(value: unknown, read: (value: unknown) => T): T | null {
  return value === null ? null : read(value)
}
