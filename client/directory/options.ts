/** The options of commands that find their workers through a directory, and how they become an intent and a router. Node only. */
import { type Command, Option } from 'commander'
import { UsageError } from '../../verifier/errors.js'
import { resolveFlags, type VerificationFlags } from '../../verifier/options.js'
import type { ProveWhen } from '../possession.js'
import { reachHere } from '../reach-here.js'
import type { Intent, PriceCap } from './intent.js'
import type { Router } from './router.js'

/** As commander hands them over. */
export interface IntentFlags extends VerificationFlags {
  readonly directory?: readonly string[]
  readonly model?: string
  readonly maxPrice?: string
  readonly region?: readonly string[]
  readonly prefer?: 'latency' | 'price'
  readonly maxLatency?: string
  readonly allowPrivateEndpoints?: boolean
}

export function addIntentOptions(command: Command): Command {
  return command
    .option('--model <name>', 'model wanted of listed workers: an id or a digest')
    .option('--max-price <price>', 'most for a million tokens, in/out: 0.50/1.50USD')
    .option('--region <name...>', 'regions that will do: eu, eu-west-1')
    .addOption(new Option('--prefer <what>', 'which verified worker is the best').choices(['latency', 'price']))
    .option('--max-latency <ms>', 'slowest evidence that will do, in milliseconds')
    .option('--allow-private-endpoints', 'let a list send you to http and private addresses')
}

/** Names of the options given that mean something only with a directory. */
export function intentFlagsGiven(flags: IntentFlags): readonly string[] {
  const given: readonly (readonly [string, unknown])[] = [
    ['--model', flags.model],
    ['--max-price', flags.maxPrice],
    ['--region', flags.region],
    ['--prefer', flags.prefer],
    ['--max-latency', flags.maxLatency],
    ['--allow-private-endpoints', flags.allowPrivateEndpoints],
  ]
  return given.flatMap(([name, value]) => (value === undefined ? [] : [name]))
}

/** `--model-digest` names the model too, where `--model` is left out. @throws UsageError on what cannot be meant. */
export function intentOf(flags: IntentFlags): Intent {
  const model = flags.model ?? (flags.modelDigest === 'any' ? undefined : flags.modelDigest)
  if (model === undefined) {
    throw new UsageError('option.model', 'say which model you want: --model NAME, or --model DIGEST')
  }
  const maxPrice = flags.maxPrice === undefined ? undefined : parsePrice(flags.maxPrice)
  return {
    model,
    ...(maxPrice === undefined ? {} : { maxPrice }),
    ...(flags.region === undefined ? {} : { regions: flags.region }),
    ...(flags.prefer === undefined ? {} : { prefer: flags.prefer }),
    ...(flags.maxLatency === undefined ? {} : { maxLatencyMs: parseLatency(flags.maxLatency) }),
  }
}

/** @throws UsageError or PolicyError before any network. */
export async function routerFor(
  flags: IntentFlags & {
    readonly directory: readonly string[]
    readonly session?: boolean
    readonly prove?: ProveWhen
  },
): Promise<Router> {
  const intent = intentOf(flags)
  const { policy, endorsements, sigstore } = await resolveFlags(flags)
  const [{ Router }, { publicReach }, { readDescriptors }, { readSources }] = await Promise.all([
    import('./router.js'),
    import('./public-reach.js'),
    import('./file-source.js'),
    import('./sources.js'),
  ])
  const allowPrivateEndpoints = flags.allowPrivateEndpoints === true
  return new Router({
    read: () => readSources(flags.directory, readDescriptors),
    intent,
    allowPrivateEndpoints,
    reach: await (allowPrivateEndpoints ? reachHere() : publicReach()),
    connect: {
      policy: { resolved: policy },
      endorsements,
      session: flags.session === true,
      ...(flags.prove === undefined ? {} : { prove: flags.prove }),
      ...(sigstore === undefined ? {} : { sigstore }),
    },
  })
}

/** `0.50/1.50USD`: in and out; one number is both. */
function parsePrice(text: string): PriceCap {
  const [, input, output = input, currency] = /^([\d.]+)(?:\/([\d.]+))? ?([A-Z]{3,8})$/.exec(text) ?? []
  if (input === undefined || output === undefined || currency === undefined) {
    throw new UsageError('option.price', '--max-price: expected what a million tokens may cost, such as 0.50/1.50USD')
  }
  return { currency, inputPerMillion: input, outputPerMillion: output }
}

function parseLatency(text: string): number {
  if (/^\d{1,6}$/.test(text)) return Number(text)
  throw new UsageError('option.latency', `--max-latency: expected a number of milliseconds, got ${text.slice(0, 20)}`)
}
