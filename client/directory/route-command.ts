/** `subrosa route`: asks listed workers for evidence, and says which would be used and why each other one would not. Node only. */
import type { ListedPrice } from '../../verifier/directory/descriptor.js'
import { ROUTE_SCHEMA } from '../../verifier/schemas.js'
import { forStream, terminalStyle } from '../../verifier/terminal.js'
import { printable, type Style } from '../../verifier/text.js'
import type { CommandStreams } from '../cli-run.js'
import { UsageError } from '../errors.js'
import { refuseUnsafe } from '../prompt-safety.js'
import { type IntentFlags, intentOf, routerFor } from './options.js'
import type { CandidateReport, RouteReport } from './report.js'

export interface RouteFlags extends IntentFlags {
  readonly directory: readonly string[]
  readonly limit: string
  readonly format: 'text' | 'json'
}

/** What a route rests on besides what was verified. */
const NOT_PROVEN = [
  { id: 'listing.price', text: 'prices: they are what providers say, and nothing attests them' },
  { id: 'listing.region', text: 'regions: they are what providers say, and nothing attests them' },
  { id: 'listing.complete', text: 'that these are all workers there are: a directory may leave out any' },
]

/** 0 with a worker to use; else 3, 1 or 4 for the gravest reason why there is none. */
export async function runRoute(flags: RouteFlags, streams: CommandStreams): Promise<number> {
  refuseUnsafe(flags)
  const limit = Number(flags.limit)
  if (!/^\d{1,4}$/.test(flags.limit) || limit < 1) {
    throw new UsageError(
      'option.limit',
      `--limit: expected a number of workers to ask, got ${flags.limit.slice(0, 20)}`,
    )
  }
  const router = await routerFor(flags)
  const report = await router.survey(limit)
  router.close()
  const exitCode = statusOf(report)
  streams.stdout.write(
    flags.format === 'json'
      ? `${JSON.stringify(toJson(report, flags, exitCode), null, 2)}\n`
      : forStream(streams.stdout, render(report, terminalStyle(streams.stdout))),
  )
  return exitCode
}

function statusOf({ candidates, leftOut }: RouteReport): 0 | 1 | 3 | 4 {
  const has = (...wanted: readonly CandidateReport['status'][]) =>
    candidates.some(({ status }) => wanted.includes(status))
  if (has('chosen')) return 0
  if (candidates.length === 0 && leftOut.some(({ malformed }) => malformed)) return 3
  if (has('rejected', 'slow')) return 1
  return has('unreachable', 'untried') ? 4 : 1
}

function toJson(report: RouteReport, flags: RouteFlags, exitCode: number): object {
  const { model, maxPrice = null, regions = null, prefer = 'latency', maxLatencyMs = null } = intentOf(flags)
  return {
    schema: ROUTE_SCHEMA,
    exitCode,
    intent: { model, maxPrice, regions, prefer, maxLatencyMs },
    candidates: report.candidates,
    leftOut: report.leftOut.map(({ source, provider = null, check = null, reason }) => ({
      ...{ source, provider, check, reason },
    })),
    notProven: NOT_PROVEN,
    evaluatedAt: new Date().toISOString(),
  }
}

function render({ candidates, leftOut }: RouteReport, style: Style): string {
  const lines: string[] = []
  const [first] = candidates
  if (first?.status === 'chosen')
    lines.push(`${style.good('USE')}   ${printable(first.url)}`, `      ${factsOf(first)}`)
  else lines.push(`${style.bad('NO WORKER')}  of ${candidates.length} listed, none can be used`)
  for (const one of candidates) {
    if (one.status === 'verified') lines.push(`then  ${printable(one.url)}`, `      ${factsOf(one)}`)
  }
  const others = candidates.filter(({ status }) => status !== 'chosen' && status !== 'verified')
  if (others.length > 0) lines.push('', 'Not used:')
  for (const one of others) {
    const mark = one.status === 'rejected' ? style.bad('x') : '-'
    const reason = one.reason ?? 'not asked: enough others were, or --limit is lower'
    lines.push(`  ${mark} ${printable(one.url)}`, style.dim(printable(`      ${reason}`)))
  }
  if (leftOut.length > 0) lines.push('', 'Left out of the list:')
  for (const { source, check, reason } of leftOut) {
    lines.push(
      printable(`  - ${source}`),
      style.dim(printable(`      ${reason}${check === undefined ? '' : ` (${check})`}`)),
    )
  }
  lines.push(
    '',
    'Nothing but requests for evidence was sent. Prices and regions are what',
    'providers say; nothing attests them.',
    '',
  )
  return lines.join('\n')
}

function factsOf({ price, region, latencyMs, model, name, provider }: CandidateReport): string {
  const who = name === null ? provider : `${name} (${provider.slice(0, 8)}…)`
  return printable(`${model.id}, ${priceText(price)}, ${region}, ${latencyMs} ms; listed by ${who}`)
}

function priceText(price: ListedPrice | null): string {
  return price === null ? 'no price' : `${price.inputPerMillion}/${price.outputPerMillion} ${price.currency}`
}
