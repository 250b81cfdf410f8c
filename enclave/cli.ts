/**
 * `subrosa serve`: the command line of the worker. It says once what runs, where, and what its attestation is worth;
 * after that it is quiet unless something fails.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { SubrosaError } from '../verifier/protocol/errors.js'
import type { IsolationMode, PaddingMode } from '../verifier/protocol/statement.js'
import { WorkerError } from './errors.js'
import { DEFAULT_DEVICE, DEVICES, type Device } from './inference/device.js'
import { loadPublicKey } from './public-key.js'
import { DEFAULT_PORT, type RunningWorker, serve } from './serve.js'

interface ServeFlags {
  readonly simulated: boolean
  readonly model?: string
  readonly modelOwner?: string
  readonly server?: string
  readonly port: number
  readonly host: string
  readonly padding: PaddingMode
  readonly isolation: IsolationMode
  readonly device: Device
  readonly trustAnchorOut?: string
  readonly endorsementsFrom?: readonly string[]
  readonly extendRtmr3: boolean
  readonly verbose: boolean
}

export { registerModel } from './cli-model.js'
export { readGpuFacts } from './gpu-facts.js'

/** Adds `serve` to the dispatcher. */
export function registerServe(program: Command): void {
  program
    .command('serve')
    .description('run a worker: attested, answering sealed prompts only')
    .option('--simulated', 'simulate a confidential VM: for trying things out, protects nothing', false)
    .option('--model <dir>', 'model package to serve (default: the demo model)')
    .option('--model-owner <file>', "its owner's public key (PEM): the weights are sealed, and wait for model release")
    .option('--server <file>', 'an OpenAI-compatible server to launch and compute with, described in JSON')
    .option('--port <n>', 'port to listen on, 0 for any free one', parsePort, DEFAULT_PORT)
    .option('--host <host>', 'address to listen on', '127.0.0.1')
    .addOption(
      new Option('--padding <mode>', 'how answer sizes are hidden; off lets the network count tokens')
        .choices(['tick', 'off'])
        .default('tick'),
    )
    .addOption(
      new Option('--isolation <mode>', 'session: keep prompts for minutes, for requests of their own session only')
        .choices(['request', 'session'])
        .default('request'),
    )
    .addOption(
      new Option('--device <device>', 'where the engine computes; anything but cpu promises nothing about bits')
        .choices(DEVICES)
        .default(DEFAULT_DEVICE),
    )
    .option('--trust-anchor-out <file>', "write the simulated machine's roots to FILE")
    .option('--endorsements-from <address...>', 'relays on the host: unix:PATH, tcp:HOST:PORT or vsock:CID:PORT')
    .option('--extend-rtmr3', 'TDX: also name configuration and model in runtime register 3', false)
    .option('--verbose', 'log every request (never its content) and show stack traces', false)
    .action((flags: ServeFlags) => run(flags))
}

async function run(flags: ServeFlags): Promise<void> {
  try {
    if (flags.trustAnchorOut !== undefined && !flags.simulated) {
      throw new WorkerError('worker.option', '--trust-anchor-out needs --simulated: real machines have vendor roots')
    }
    const worker = await serve({
      simulated: flags.simulated,
      port: flags.port,
      host: flags.host,
      padding: flags.padding,
      isolation: flags.isolation,
      device: flags.device,
      logLevel: flags.verbose ? 'info' : 'error',
      ...(flags.endorsementsFrom === undefined ? {} : { endorsementRelays: flags.endorsementsFrom }),
      ...(flags.extendRtmr3 ? { extendRuntimeRegister: true } : {}),
      ...(flags.model === undefined ? {} : { modelDirectory: flags.model }),
      ...(flags.server === undefined ? {} : { server: await loadServerConfig(flags.server) }),
      ...(flags.modelOwner === undefined
        ? {}
        : { modelOwnerKey: await loadPublicKey('--model-owner', flags.modelOwner) }),
    })
    try {
      if (flags.trustAnchorOut !== undefined) await writeTrustAnchor(flags.trustAnchorOut, worker.rootsPem ?? '')
    } catch (error) {
      await worker.close()
      throw error
    }
    process.stdout.write(banner(worker, flags.trustAnchorOut))
    closeOnSignal(worker)
  } catch (error) {
    process.stderr.write(`subrosa serve: ${sentence(error, flags.verbose)}\n`)
    process.exitCode = 1
  }
}

/** What runs, where, and what its attestation is worth. */
export function banner(worker: Pick<RunningWorker, 'url' | 'platform' | 'model' | 'padding'>, anchor?: string): string {
  const { url, platform, model, padding } = worker
  const attestation = platform.simulated
    ? 'SIMULATED SEV-SNP with one GPU, under throw-away roots: it protects nothing, and verifiers refuse it unless told to trust them'
    : `${platform.kind === 'snp' ? 'AMD SEV-SNP' : 'Intel TDX'} through ${platform.name}`
  return [
    `subrosa worker at ${url}`,
    `  model        ${model.id} (${model.title})`,
    `  attestation  ${attestation}`,
    `  prompts      sealed only, answers padded: ${padding}`,
    ...(anchor === undefined ? [] : [`  its roots    ${anchor}`]),
    ...(model.sealed ? ['  waiting      for the owner of the model: subrosa model release'] : []),
    '',
  ].join('\n')
}

async function loadServerConfig(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'))
  } catch (cause) {
    throw new WorkerError('worker.option', `--server: expected ${file} to be readable JSON`, { cause })
  }
}

async function writeTrustAnchor(file: string, pem: string): Promise<void> {
  try {
    await writeFile(file, pem)
  } catch (cause) {
    throw new WorkerError('worker.option', `--trust-anchor-out: cannot write ${file}`, { cause })
  }
}

/** The first signal lets answers in progress end and closes in order; a second one does not wait. */
function closeOnSignal(worker: RunningWorker): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      process.once(signal, () => process.exit(1))
      worker
        .drain()
        .then(() => worker.close())
        .catch(() => {
          process.exitCode = 1
        })
    })
  }
}

function parsePort(text: string): number {
  const port = Number(text)
  if (!/^\d{1,5}$/.test(text) || port > 65_535) throw new InvalidArgumentError('expected a number from 0 to 65535.')
  return port
}

/** One sentence; a stack only where it was asked for. */
function sentence(error: unknown, verbose: boolean): string {
  if (verbose && error instanceof Error) return error.stack ?? error.message
  if (error instanceof SubrosaError) return error.message
  return 'it failed for a reason of its own making; --verbose shows where'
}
