/**
 * What a provider says of its workers (PROTOCOL.md §15): the payload of a descriptor, the names and the bounds. All of it is
 * the provider's own word: hints where to look, of which nothing is believed before a worker itself has been verified.
 */
import * as v from 'valibot'
import { UsageError } from '../errors.js'
import { parseWorkerUrl } from '../fetch-evidence.js'
import { fromBase64Url } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'

export const DESCRIPTOR_SCHEMA = 'subrosa-descriptor/1'
export const DESCRIPTOR_TYPE = 'subrosa-descriptor+jwt'
export const MEDIA_TYPE_DESCRIPTOR = 'application/vnd.subrosa.descriptor+jwt'
/** Where a provider may publish it, below its own origin. */
export const PATH_DESCRIPTOR = '/.well-known/subrosa-descriptor'
/** Longest compact form read, in characters. */
export const MAX_DESCRIPTOR_BYTES: number = 32 * 1024
export const MAX_ENDPOINTS = 32
/** Longest time from `iat` to `exp`, in seconds. */
export const MAX_DESCRIPTOR_LIFETIME_S: number = 31 * 86_400

/** What one million tokens cost, in decimal digits. Nothing attests a price. */
export interface ListedPrice {
  /** ISO 4217, or another name in capitals. */
  readonly currency: string
  readonly inputPerMillion: string
  readonly outputPerMillion: string
}

/** Digests are 64 lower-case hexadecimal digits. */
export interface ListedModel {
  readonly id: string
  /** SHA-256 of its package's manifest.json, which fixes the whole package. */
  readonly manifest: string
  /** Weights root. */
  readonly weights: string
}

/** One worker, as its provider lists it. */
export interface Endpoint {
  /** Worker URL, as the URL standard writes it. */
  readonly url: string
  /** Where it stands, from the large to the small: `eu-west-1`. Nothing attests it. */
  readonly region: string
  /** What it serves. Held against the attested statement. */
  readonly model: ListedModel
  /** null: not said here. */
  readonly price: ListedPrice | null
}

export interface DescriptorPayload {
  readonly schema: typeof DESCRIPTOR_SCHEMA
  /** Raw Ed25519 public key that signs it, 32 bytes, base64url. */
  readonly provider: string
  /** What the provider calls itself; anybody may call themselves that. */
  readonly name?: string
  /** Of one provider's descriptors the one with the highest counts. */
  readonly seq: number
  /** Seconds since the epoch on the provider's clock. */
  readonly iat: number
  readonly exp: number
  readonly endpoints: readonly Endpoint[]
}

const text = (pattern: RegExp, what: string) => v.pipe(v.string(), v.regex(pattern, `expected ${what}`))
const amount = text(
  /^(0|[1-9]\d{0,8})(\.\d{1,9})?$/,
  'a decimal number of at most nine digits before and after the point',
)
const whole = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER))

const digest = text(/^[0-9a-f]{64}$/, 'a digest: 64 lower-case hexadecimal digits')

const endpointSchema = v.strictObject({
  url: v.pipe(
    v.string(),
    v.maxLength(512),
    v.check(isCanonical, 'expected a worker URL as the URL standard writes it, such as https://gpu7.example.net/'),
  ),
  region: v.pipe(text(/^[a-z0-9]+(-[a-z0-9]+)*$/, 'a region such as eu-west-1'), v.maxLength(32)),
  model: v.strictObject({
    id: text(/^[a-z0-9][a-z0-9._-]{0,99}$/, 'a model id'),
    manifest: digest,
    weights: digest,
  }),
  price: v.union([
    v.null(),
    v.strictObject({
      currency: text(/^[A-Z]{3,8}$/, 'a currency such as USD'),
      inputPerMillion: amount,
      outputPerMillion: amount,
    }),
  ]),
})

const claims = {
  name: v.exactOptional(
    text(/^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]{1,80}$/, 'a name of at most 80 characters'),
  ),
  endpoints: v.pipe(
    v.array(endpointSchema),
    v.minLength(1, 'expected at least one endpoint'),
    v.maxLength(MAX_ENDPOINTS),
    v.check((all) => new Set(all.map(({ url }) => url)).size === all.length, 'an endpoint is listed twice'),
  ),
}

const payloadSchema = v.strictObject({
  schema: v.literal(DESCRIPTOR_SCHEMA),
  provider: text(/^[\w-]{43}$/, 'a raw Ed25519 public key in base64url'),
  seq: whole,
  iat: whole,
  exp: whole,
  ...claims,
})

/** What a provider writes before it is signed. */
const sourceSchema = v.strictObject(claims)
export type DescriptorSource = Pick<DescriptorPayload, 'name' | 'endpoints'>

/** @throws FormatError `descriptor.payload` naming the first member that is not as it must be. */
export function parseDescriptorPayload(value: unknown): DescriptorPayload {
  const payload = parsed(payloadSchema, value)
  fromBase64Url(payload.provider) // canonical, so that one key has one name
  return payload
}

/** As `parseDescriptorPayload`, of what is written before key, number and window are added. */
export function parseDescriptorSource(value: unknown): DescriptorSource {
  return parsed(sourceSchema, value)
}

/** What a descriptor's payload may say, for `verify-attestation schema descriptor`. */
export function descriptorPayloadSchema(): object {
  return payloadSchema
}

function parsed<S extends v.GenericSchema>(schema: S, value: unknown): v.InferOutput<S> {
  const result = v.safeParse(schema, value, { abortEarly: true })
  if (result.success) return result.output
  const [issue] = result.issues
  const path = (issue.path ?? []).map(({ key }) => String(key).slice(0, 40)).join('.')
  throw new FormatError('descriptor.payload', `${path === '' ? 'descriptor' : path}: ${reasonOf(issue)}`)
}

/** Words of ours: a library's would quote what came. */
function reasonOf({ kind, type, expected, message }: v.BaseIssue<unknown>): string {
  if (type === 'strict_object' && expected === 'never') return 'an unknown member'
  if (kind === 'schema' && type === 'strict_object') return 'expected a map with other members'
  return type === 'regex' || type === 'check' || type === 'min_length' ? message : `expected ${expected ?? type}`
}

/** Whether the text is a worker's URL exactly as a URL object prints it: one worker has one name, in plain ASCII. */
function isCanonical(url: string): boolean {
  try {
    return parseWorkerUrl(url).href === url
  } catch (error) {
    if (error instanceof UsageError) return false
    throw error
  }
}
