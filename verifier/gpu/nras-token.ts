/**
 * The answer of NVIDIA's remote verifier, and the key set it is signed with: readers. Compact JWS (RFC 7515 §7.1), JWKS
 * (RFC 7517). Nothing is verified here; claims are whatever the tokens say.
 */
import { type Bytes, fromBase64, fromBase64Url, fromUtf8, toHex, utf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha256 } from '../protocol/hash.js'
import { type Certificate, parseCertificate } from '../x509.js'
import type { DeviceKind } from './family.js'

export type JsonObject = Readonly<Record<string, unknown>>

export interface NrasToken {
  /** `overall`, `GPU-0` … */
  readonly name: string
  readonly jwt: string
  readonly header: JsonObject
  readonly claims: JsonObject
  /** Lower-case hex SHA-256 of the compact text. */
  readonly sha256Hex: string
}

export interface NrasResponse {
  /** What every device token is about: the service judges GPUs and switches apart, under the same keys. */
  readonly kind: DeviceKind
  readonly overall: NrasToken
  /** In the order of the response. */
  readonly devices: readonly NrasToken[]
}

export interface NrasKey {
  readonly kid: string
  /** The public key alone, for importing. */
  readonly jwk: { readonly kty: 'EC'; readonly crv: 'P-384'; readonly x: string; readonly y: string }
  /** Uncompressed point: 04 ‖ x ‖ y. */
  readonly point: Bytes
  /** x5c, leaf first; empty when the set carries none. */
  readonly certificates: readonly Certificate[]
}

const MAX_RESPONSE_BYTES = 1024 * 1024
const MAX_TOKEN_CHARACTERS = 64 * 1024
const MAX_DEVICES = 64
const MAX_KEYS = 128
const COORDINATE_BYTES = 48

const DEVICE_NAME: Readonly<Record<DeviceKind, RegExp>> = { gpu: /^GPU-[0-9]{1,3}$/, switch: /^SWITCH-[0-9]{1,3}$/ }

/** `[["JWT", overall], {"GPU-0": jwt, …}]`, or `SWITCH-0` …; never both. @throws FormatError on anything else. */
export function parseNrasResponse(bytes: Bytes): NrasResponse {
  const value = parseJson(bytes, MAX_RESPONSE_BYTES, 'NRAS response')
  if (!Array.isArray(value) || value.length !== 2) throw malformed('expected an overall token and device tokens')
  const [head, submodules] = value as readonly unknown[]
  if (!Array.isArray(head) || head.length !== 2 || head[0] !== 'JWT' || !isObject(submodules)) {
    throw malformed('expected an overall token and device tokens')
  }
  const entries = Object.entries(submodules)
  if (entries.length === 0 || entries.length > MAX_DEVICES) throw malformed(`${entries.length} device tokens`)
  const kind = entries[0]?.[0].startsWith('SWITCH') === true ? 'switch' : 'gpu'
  if (!entries.every(([name]) => DEVICE_NAME[kind].test(name))) {
    throw malformed('expected tokens of GPUs alone or of switches alone')
  }
  const devices = entries.map(([name, jwt]) => parseToken(name, jwt))
  return { kind, overall: parseToken('overall', head[1]), devices }
}

function parseToken(name: string, jwt: unknown): NrasToken {
  if (typeof jwt !== 'string' || jwt.length > MAX_TOKEN_CHARACTERS) throw malformed(`${name}: expected a token`)
  const [header, payload, signature, ...extra] = jwt.split('.')
  if (header === undefined || payload === undefined || signature === undefined || extra.length > 0) {
    throw malformed(`${name}: expected a compact JWS`)
  }
  fromBase64Url(signature)
  return {
    name,
    jwt,
    header: objectOf(fromBase64Url(header), `${name}: header`),
    claims: objectOf(fromBase64Url(payload), `${name}: claims`),
    sha256Hex: toHex(sha256(utf8(jwt))),
  }
}

/** Keys of one set by kid; what is not a P-384 key is left out. @throws FormatError on no set, or a kid occurring twice. */
export function parseKeySet(bytes: Bytes): readonly NrasKey[] {
  const value = parseJson(bytes, MAX_RESPONSE_BYTES, 'key set')
  const keys = isObject(value) ? value['keys'] : undefined
  if (!Array.isArray(keys) || keys.length > MAX_KEYS) throw malformed('expected a key set')
  const parsed = keys.flatMap((key: unknown) => (isObject(key) ? parseKey(key) : []))
  if (new Set(parsed.map(({ kid }) => kid)).size !== parsed.length) throw malformed('a key identifier occurs twice')
  return parsed
}

function parseKey(key: JsonObject): readonly NrasKey[] {
  const { kid, kty, crv, x, y, x5c } = key as Readonly<Record<'kid' | 'kty' | 'crv' | 'x' | 'y' | 'x5c', unknown>>
  if (kty !== 'EC' || crv !== 'P-384') return []
  if (typeof kid !== 'string' || typeof x !== 'string' || typeof y !== 'string') throw malformed('a key without value')
  const point = new Uint8Array([0x04, ...coordinate(x), ...coordinate(y)])
  const chain = Array.isArray(x5c) ? x5c : []
  const certificates = chain.slice(0, 4).map((text: unknown) => {
    if (typeof text !== 'string') throw malformed('a certificate that is no text')
    return parseCertificate(fromBase64(text))
  })
  return [{ kid, jwk: { kty, crv, x, y }, point, certificates }]
}

function coordinate(text: string): Bytes {
  const bytes = fromBase64Url(text)
  if (bytes.length !== COORDINATE_BYTES) throw malformed('a key of the wrong size')
  return bytes
}

function objectOf(bytes: Bytes, what: string): JsonObject {
  const value = parseJson(bytes, MAX_TOKEN_CHARACTERS, what)
  if (!isObject(value)) throw malformed(`${what}: expected an object`)
  return value
}

function parseJson(bytes: Bytes, maxBytes: number, what: string): unknown {
  if (bytes.length > maxBytes) throw malformed(`${what}: ${bytes.length} bytes, at most ${maxBytes}`)
  const text = fromUtf8(bytes)
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new FormatError('nras.malformed', `NRAS: ${what}: not JSON`, { cause })
  }
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function malformed(what: string): FormatError {
  return new FormatError('nras.malformed', `NRAS: ${what}`)
}

/** A claim for people: text and numbers as they are, anything else by its kind. Objects may carry a hostile toString. */
export function shown(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    ? `${value}`
    : typeof value
}
