/**
 * The published JSON Schemas (2020-12): of what `--format json` prints, of policy documents, of descriptors and directories. A new version of either
 * object gets a new `schema` string and a new schema here; a reader refuses those it does not know.
 *
 * Those of what is read are derived from the schemas it is really read with, so the two cannot drift apart.
 */
import { DESCRIPTOR_SCHEMA, descriptorPayloadSchema } from './directory/descriptor.js'
import { DIRECTORY_SCHEMA, directoryDocumentSchema } from './directory/document.js'
import { POLICY_SCHEMA, policyDocumentSchema } from './policy.js'
import { RESULT_SCHEMA } from './result.js'
import { toJsonSchema } from './schema-json.js'

export type JsonSchema = Readonly<Record<string, unknown>>

const DIALECT = 'https://json-schema.org/draft/2020-12/schema'

export const RECEIPT_RESULT_SCHEMA = 'subrosa-receipt-result/1'
export const ROUTE_SCHEMA = 'subrosa-route/1'

const VERDICT: JsonSchema = { enum: ['accepted', 'rejected', 'malformed', 'unavailable'] }
const INSTANT: JsonSchema = { type: 'string', pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d+)?Z$' }

const closed = (properties: Readonly<Record<string, JsonSchema>>, optional: readonly string[] = []): JsonSchema => ({
  type: 'object',
  properties,
  required: Object.keys(properties).filter((name) => !optional.includes(name)),
  additionalProperties: false,
})
const TEXT: JsonSchema = { type: 'string' }
const WORDS: JsonSchema = { type: 'string', minLength: 1 }

/** A reason is present exactly when the status is not `pass`. */
const CHECK: JsonSchema = {
  ...closed(
    {
      id: { type: 'string', pattern: '^[a-z0-9]+([.-][a-z0-9]+)*$' },
      title: WORDS,
      spec: WORDS,
      status: { enum: ['pass', 'fail', 'skip'] },
      reason: WORDS,
      expected: TEXT,
      actual: TEXT,
    },
    ['reason', 'expected', 'actual'],
  ),
  oneOf: [
    { properties: { status: { const: 'pass' } } },
    { properties: { status: { enum: ['fail', 'skip'] } }, required: ['reason'] },
  ],
}
const CHECKS: JsonSchema = { type: 'array', minItems: 1, items: CHECK }
const MAYBE_TEXT: JsonSchema = { type: ['string', 'null'] }

const RESULT: JsonSchema = {
  ...closed({
    schema: { const: RESULT_SCHEMA },
    verdict: VERDICT,
    exitCode: { enum: [0, 1, 3, 4] },
    evidence: {
      type: 'object',
      properties: { kind: { enum: ['bundle', 'snp', 'tdx', 'gpu', 'gpu-rim', 'gpu-nras'] }, platform: MAYBE_TEXT },
      required: ['kind'],
    },
    checks: CHECKS,
    notProven: { type: 'array', minItems: 1, items: closed({ id: WORDS, text: WORDS }) },
    endorsements: {
      type: 'array',
      items: closed({ kind: WORDS, issuedAt: MAYBE_TEXT, nextUpdate: MAYBE_TEXT }),
    },
    policy: { type: 'object', properties: { schema: { const: POLICY_SCHEMA } }, required: ['schema'] },
    evaluatedAt: INSTANT,
  }),
  oneOf: (
    [
      ['accepted', 0],
      ['rejected', 1],
      ['malformed', 3],
      ['unavailable', 4],
    ] as const
  ).map(([verdict, exitCode]) => ({ properties: { verdict: { const: verdict }, exitCode: { const: exitCode } } })),
}

/** Of the object `--format json` prints. */
export const RESULT_JSON_SCHEMA: JsonSchema = {
  $schema: DIALECT,
  $id: `tag:subrosa,2026:${RESULT_SCHEMA}`,
  title: 'Attestation result of verify-attestation',
  ...RESULT,
}

/** Of the object `receipt --format json` prints. */
export const RECEIPT_RESULT_JSON_SCHEMA: JsonSchema = {
  $schema: DIALECT,
  $id: `tag:subrosa,2026:${RECEIPT_RESULT_SCHEMA}`,
  title: 'Receipts held against a bundle by verify-attestation receipt',
  ...closed({
    schema: { const: RECEIPT_RESULT_SCHEMA },
    verdict: VERDICT,
    exitCode: { enum: [0, 1, 3, 4] },
    receipts: {
      type: 'array',
      items: closed({
        name: WORDS,
        verdict: VERDICT,
        checks: CHECKS,
        payload: { type: ['object', 'null'] },
      }),
    },
    bundle: RESULT,
  }),
}

const PRICE: JsonSchema = closed({ currency: WORDS, inputPerMillion: WORDS, outputPerMillion: WORDS })
const orNull = (schema: JsonSchema): JsonSchema => ({ anyOf: [{ type: 'null' }, schema] })

/** Of the object `subrosa route --format json` prints. */
export const ROUTE_JSON_SCHEMA: JsonSchema = {
  $schema: DIALECT,
  $id: `tag:subrosa,2026:${ROUTE_SCHEMA}`,
  title: 'Which worker of a directory would be used, and why each other one would not',
  ...closed({
    schema: { const: ROUTE_SCHEMA },
    exitCode: { enum: [0, 1, 3, 4] },
    intent: closed({
      model: WORDS,
      maxPrice: orNull(PRICE),
      regions: orNull({ type: 'array', items: WORDS }),
      prefer: { enum: ['latency', 'price'] },
      maxLatencyMs: { type: ['number', 'null'] },
    }),
    candidates: {
      type: 'array',
      items: closed({
        url: WORDS,
        provider: WORDS,
        name: MAYBE_TEXT,
        region: WORDS,
        model: closed({ id: WORDS, manifest: WORDS, weights: WORDS }),
        price: orNull(PRICE),
        status: { enum: ['chosen', 'verified', 'unfit', 'rejected', 'unreachable', 'slow', 'untried'] },
        latencyMs: { type: ['number', 'null'] },
        reason: MAYBE_TEXT,
        checks: { type: 'array', items: WORDS },
      }),
    },
    leftOut: {
      type: 'array',
      items: closed({ source: WORDS, provider: MAYBE_TEXT, check: MAYBE_TEXT, reason: WORDS }),
    },
    notProven: { type: 'array', minItems: 1, items: closed({ id: WORDS, text: WORDS }) },
    evaluatedAt: INSTANT,
  }),
}

/** Of a policy document, whether written as YAML or as JSON. Computed: nobody but `schema policy` pays for it. */
export function policySchema(): JsonSchema {
  return {
    $schema: DIALECT,
    $id: `tag:subrosa,2026:${POLICY_SCHEMA}`,
    title: 'Appraisal policy of Subrosa; a member left out takes its strict value',
    ...toJsonSchema(policyDocumentSchema()),
  }
}

/** Of what a provider signs, before it is a JWS. */
export function descriptorSchema(): JsonSchema {
  return {
    $schema: DIALECT,
    $id: `tag:subrosa,2026:${DESCRIPTOR_SCHEMA}`,
    title: 'Payload of a provider’s descriptor',
    ...toJsonSchema(descriptorPayloadSchema()),
  }
}

/** Of a directory document. */
export function directorySchema(): JsonSchema {
  return {
    $schema: DIALECT,
    $id: `tag:subrosa,2026:${DIRECTORY_SCHEMA}`,
    title: 'Directory of providers’ descriptors',
    ...toJsonSchema(directoryDocumentSchema()),
  }
}
