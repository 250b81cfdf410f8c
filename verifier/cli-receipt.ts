/**
 * `verify-attestation receipt`: receipts held against the bundle of the worker that is said to have signed them. Without
 * an accepted bundle a receipt proves nothing, so none is looked at. Node only.
 */
import { type Command, Option } from 'commander'
import * as v from 'valibot'
import { EXIT_CODES, type Verdict } from './checks.js'
import { detectEvidence } from './detect.js'
import { UsageError } from './errors.js'
import { loadFile } from './files.js'
import { addVerificationOptions, resolveFlags, type VerificationFlags } from './options.js'
import { formatOption, type Output, printResult } from './print.js'
import { parseBundle } from './protocol/bundle.js'
import { fromBase64Url, fromUtf8 } from './protocol/bytes.js'
import { FormatError } from './protocol/errors.js'
import { parseClaims } from './protocol/statement.js'
import type { ReceiptContext } from './receipt.js'
import { type ChainedReceipt, verifyReceipts } from './receipt-chain.js'
import { type AttestationResult, exitCodeOf, resultToJson } from './result.js'
import { RECEIPT_RESULT_SCHEMA } from './schemas.js'
import { printable } from './text.js'
import { appraiserFor, isUrl, verifyTarget } from './verify-target.js'

interface Flags extends VerificationFlags {
  readonly bundle: string
  readonly opening?: string
  readonly format: 'text' | 'json'
}

interface NamedReceipt {
  readonly name: string
  readonly jws: string
}

export function registerReceipt(program: Command, output: Output, done: (status: number) => void): void {
  const command = program
    .command('receipt')
    .description('check receipts against the bundle of the worker that signed them')
    .argument('<file...>', 'receipts, one compact JWS a line; several form a chain, oldest first')
    .addOption(new Option('--bundle <file>', 'bundle of the worker, as --save kept it').makeOptionMandatory())
    .option('--opening <file>', 'what opens the commitments to prompt and answer of one receipt (JSON)')
    .addOption(formatOption(['text', 'json']))
    .option('--verbose', 'show the stack of an unexpected error')
    .action(async (files: string[], flags: Flags) => {
      done(await run(files, flags, output))
    })
  addVerificationOptions(command)
}

async function run(files: readonly string[], flags: Flags, output: Output): Promise<number> {
  if (isUrl(flags.bundle)) {
    throw new UsageError(
      'option.bundle',
      '--bundle: expected a saved bundle; a receipt may be older than a worker’s keys',
    )
  }
  const receipts = await loadReceipts(files)
  if (flags.opening !== undefined && receipts.length > 1) {
    throw new UsageError('option.opening', '--opening belongs to one receipt; name that one alone')
  }
  const opening = flags.opening === undefined ? undefined : await loadOpening(flags.opening)
  const { evidence, result } = await verifyTarget(flags.bundle, await resolveFlags(flags), appraiserFor(flags, output))
  if (detectEvidence(evidence).kind !== 'bundle') throw new UsageError('option.bundle', '--bundle: that is no bundle')
  if (result.verdict !== 'accepted') {
    if (flags.format === 'json') print(toJson(result, [], result.verdict), output)
    else await printResult(result, flags, output)
    output.stderr.write('verify-attestation: the bundle is not accepted, so no receipt was looked at\n')
    return exitCodeOf(result)
  }
  const { statement, statementDigest } = parseClaims(parseBundle(detectEvidence(evidence).bytes).claims)
  const checked = await verifyReceipts(
    receipts.map(({ jws }) => jws),
    {
      receiptKey: statement.keys.receipt,
      statementDigest,
      weightsRoot: statement.model.weightsRoot,
      ...(opening === undefined ? {} : { opening }),
    },
  )
  const named = checked.map((receipt, i) => ({ ...receipt, name: receipts[i]?.name ?? `${i}` }))
  const verdict = worst(named.map((receipt) => receipt.verdict))
  if (flags.format === 'json') print(toJson(result, named, verdict), output)
  else output.stdout.write(renderReceipts(named, result))
  return EXIT_CODES[verdict]
}

async function loadReceipts(files: readonly string[]): Promise<NamedReceipt[]> {
  const loaded = await Promise.all(
    files.map(async (name) => {
      const lines = asText(await loadFile(name, 'receipt', 1024 * 1024), name)
        .split('\n')
        .map((line) => line.trim())
      return lines.filter((line) => line !== '').map((jws) => ({ name, jws }))
    }),
  )
  const receipts = loaded.flat()
  if (receipts.length === 0) throw new UsageError('receipt.missing', `no receipt in ${files.join(', ')}`)
  return receipts
}

const OPENING = v.strictObject({
  schema: v.literal('subrosa-receipt-opening/1'),
  key: v.string(),
  requestSalt: v.string(),
  request: v.string(),
  responseSalt: v.string(),
  response: v.string(),
})

/** All members but `schema` are base64url: digest of the key configuration, the two salts, both inner bodies. */
async function loadOpening(path: string): Promise<NonNullable<ReceiptContext['opening']>> {
  const text = asText(await loadFile(path, 'opening'), path)
  try {
    const { key, requestSalt, request, responseSalt, response } = v.parse(OPENING, JSON.parse(text))
    return {
      keyDigest: fromBase64Url(key),
      requestSalt: fromBase64Url(requestSalt),
      requestBody: fromBase64Url(request),
      responseSalt: fromBase64Url(responseSalt),
      responseBody: fromBase64Url(response),
    }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : 'unreadable'
    throw new UsageError('opening.malformed', `cannot read opening ${path}: ${reason}`, { cause })
  }
}

function asText(bytes: Uint8Array, name: string): string {
  try {
    return fromUtf8(bytes)
  } catch (cause) {
    if (cause instanceof FormatError) throw new UsageError('file.text', `cannot read ${name}: expected text`, { cause })
    throw cause
  }
}

type Named = ChainedReceipt & { readonly name: string }

/** Malformed before rejected before unavailable, as for checks. */
function worst(verdicts: readonly Verdict[]): Verdict {
  return (['malformed', 'rejected', 'unavailable'] as const).find((one) => verdicts.includes(one)) ?? 'accepted'
}

function toJson(bundle: AttestationResult, receipts: readonly Named[], verdict: Verdict) {
  return {
    schema: RECEIPT_RESULT_SCHEMA,
    verdict,
    exitCode: EXIT_CODES[verdict],
    receipts: receipts.map(({ name, verdict: own, checks, payload }) => ({
      name,
      verdict: own,
      checks,
      payload: payload ?? null,
    })),
    bundle: resultToJson(bundle),
  }
}

function print(value: unknown, output: Output): void {
  output.stdout.write(`${JSON.stringify(value, null, 2)}\n`)
}

function renderReceipts(receipts: readonly Named[], bundle: AttestationResult): string {
  const simulated = bundle.notProven.some((item) => item.id === 'hardware.private-root')
  const lines = receipts.flatMap(({ name, verdict, checks, payload }) => [
    `${verdict.toUpperCase()}  receipt ${printable(name)}${simulated ? ', of SIMULATED OR PRIVATE hardware' : ''}`,
    ...(payload === undefined
      ? []
      : [
          `  ${printable(payload.model.id)}, ${new Date(payload.iat * 1000).toJSON() ?? 'at no known time'}, ${payload.usage.completion_tokens} tokens of answer`,
        ]),
    ...checks
      .filter((check) => check.status !== 'pass')
      .map((check) => `  ${check.status === 'fail' ? 'x' : '-'} ${check.id}  ${printable(check.reason ?? '')}`),
  ])
  return `${lines.join('\n')}\n`
}
