/**
 * The dispatcher behind `subrosa`. Clients' commands live here; the worker's are loaded from the enclave workspace, which
 * the published package does not contain. Node only.
 */
import { Command, CommanderError, Option } from 'commander'
import { SubrosaError } from '../verifier/errors.js'
import { addVerificationOptions } from '../verifier/options.js'
import { printableLines } from '../verifier/text.js'
import { VERSION } from '../verifier/version.js'
import type { ChatFlags } from './chat.js'
import { addIntentOptions } from './directory/options.js'
import type { RouteFlags } from './directory/route-command.js'
import type { GpuFacts } from './doctor-guest.js'
import type { DrainFlags } from './drain.js'
import type { RelayFlags } from './endorsement-relay.js'
import type { ExplorerFlags } from './explorer/server.js'
import type { ReleaseFlags } from './model-release.js'
import type { ProxyFlags } from './proxy.js'

export interface CommandStreams {
  readonly stdout: NodeJS.WritableStream
  readonly stderr: NodeJS.WritableStream
}

/** What the repository's image scripts offer the dispatcher. */
interface ImageCommands {
  registerImageCommands(program: Command): void
}

/** What the enclave workspace offers the dispatcher; typed here so that neither side imports the other. */
interface WorkerCommands {
  readGpuFacts(): Promise<GpuFacts | undefined>
  registerServe(program: Command): void
  registerModel(model: Command): void
}

/** What the repository's load test offers the dispatcher. */
interface BenchCommand {
  registerBench(program: Command, streams: CommandStreams): void
}

interface ModelTools {
  registerModelTools(model: Command): void
}

const MISUSE = 2

/** Runs one command line and returns its exit status. No stack is printed unless --verbose is given. */
export async function runSubrosa(argv: readonly string[], streams: CommandStreams): Promise<number> {
  let status = 0
  const program = new Command('subrosa')
    .description('Confidential LLM inference that its users can check.')
    .version(VERSION, '--version')
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => streams.stdout.write(text),
      writeErr: (text) => streams.stderr.write(text),
      outputError: (text, write) => write(text.replace(/^error: /, 'subrosa: ')),
    })
  const chat = program
    .command('chat')
    .description('talk to a worker in the terminal, after verifying it')
    .argument('<url>', 'worker URL')
    .option('--model <id>', 'model to ask for; the worker’s own by default')
    .option('--system <text>', 'system message')
    .option('--prompt <text>', 'ask this one question, print the answer, and leave')
    .option('--verbose', 'show the stack of an unexpected error')
    .action(async (url: string, flags: ChatFlags) => {
      const { runChat } = await import('./chat.js')
      status = await runChat(url, flags, streams)
    })
  addVerificationOptions(chat)
  const proxy = program
    .command('proxy')
    .description('a local OpenAI-compatible address that seals to verified workers')
    .option('--worker <url...>', 'worker URL; several are tried in order')
    .option('--directory <from...>', 'URLs or files that list workers; the best that verifies is used')
    .option('--port <n>', 'port on 127.0.0.1, 0 for any free one', '8787')
    .addOption(
      new Option('--prove <when>', 'ask for proof of the attested key before each prompt, or where none is recent')
        .choices(['recent', 'always'])
        .default('recent'),
    )
    .option('--token-out <file>', 'write the API key to FILE, for you only, instead of printing it')
    .option(
      '--session',
      'one session for all requests: chained receipts, and prompts reused where the worker attests that',
    )
    .option('--verbose', 'show the stack of an unexpected error')
    .action(async (flags: ProxyFlags) => {
      const { runProxy } = await import('./proxy.js')
      status = await runProxy(flags, streams)
    })
  addVerificationOptions(addIntentOptions(proxy))
  const route = program
    .command('route')
    .description('which listed worker would be used, and why each other one would not; sends no prompt')
    .requiredOption('--directory <from...>', 'URLs or files that list workers')
    .option('--limit <n>', 'most workers to ask for evidence', '24')
    .addOption(new Option('--format <format>', 'how to print').choices(['text', 'json']).default('text'))
    .option('--verbose', 'show the stack of an unexpected error')
    .action(async (flags: RouteFlags) => {
      const { runRoute } = await import('./directory/route-command.js')
      status = await runRoute(flags, streams)
    })
  addVerificationOptions(addIntentOptions(route))
  program
    .command('explorer')
    .description('a page in your browser: verify a worker or a bundle, look, and talk')
    .option('--port <n>', 'port on 127.0.0.1, 0 for any free one', '8788')
    .option('--verbose', 'show the stack of an unexpected error')
    .action(async (flags: ExplorerFlags) => {
      const { runExplorer } = await import('./explorer/server.js')
      status = await runExplorer(flags, streams)
    })
  const model = program
    .command('model')
    .description('measured model packages: import one, check it, seal it, release its key')
  const release = model
    .command('release')
    .description('give a verified worker the key to encrypted weights')
    .argument('<url>', 'worker URL')
    .requiredOption('--weights-key <file>', 'the key that `model seal` wrote')
    .requiredOption('--owner-key <file>', 'your Ed25519 private key (PKCS #8 PEM)')
    .option('--verbose', 'show the stack of an unexpected error')
    .action(async (url: string, flags: ReleaseFlags) => {
      const { runRelease } = await import('./model-release.js')
      status = await runRelease(url, flags, streams)
    })
  addVerificationOptions(release)
  program
    .command('doctor')
    .description('what this host or guest can do for confidential inference, what is missing, and what to do')
    .option('--json', 'print one JSON object')
    .action(async (flags: { json?: boolean }) => {
      const { runDoctor } = await import('./doctor.js')
      status = await runDoctor(flags, streams, async () => (await loadWorkerCommands()).readGpuFacts())
    })
  program
    .command('endorsements')
    .description('relay endorsements from their makers to workers without a network (providers)')
    .requiredOption('--listen <address>', 'unix:PATH or tcp:HOST:PORT')
    .option('--files <path...>', 'files and folders to hand out as well')
    .option('--offline', 'hand out files only, never touch the network')
    .option('--drain <file>', 'tell the workers named in FILE to leave; `subrosa drain` names one')
    .option('--kds <origin>', 'a cache of AMD’s key service')
    .option('--pccs <origin>', 'a cache of Intel’s collateral')
    .option('--rim <origin>', 'a cache of NVIDIA’s manifests')
    .option('--ocsp <url>', 'a relay to NVIDIA’s OCSP responder')
    .action(async (flags: RelayFlags) => {
      const { runRelay } = await import('./endorsement-relay.js')
      status = await runRelay(flags, streams)
    })
  program
    .command('drain')
    .description('let a worker of the image end its answers and leave (providers)')
    .argument('<url>', 'worker URL')
    .requiredOption('--file <file>', 'the FILE of `subrosa endorsements --drain FILE` on its host')
    .action(async (url: string, flags: DrainFlags) => {
      const { runDrain } = await import('./drain.js')
      status = await runDrain(url, flags, streams)
    })
  const directory = program
    .command('directory')
    .description('gather what providers say of their workers into one list; make and sign what you say of yours')
  const image = program.command('image').description('build, measure and boot the enclave image (providers)')
  const named = (name: string) => argv[2] === name || (argv[2] === 'help' && argv[3] === name)
  const done = (code: number) => {
    status = code
  }
  try {
    if (argv[2] === 'model' && argv[3] !== 'release') await registerHere(model)
    if (named('directory')) (await import('./directory/command.js')).registerDirectory(directory, streams, done)
    if (named('image')) (await loadImageCommands()).registerImageCommands(image)
    if (named('serve')) {
      ;(await loadWorkerCommands()).registerServe(program)
    } else {
      program.command('serve').description('run a worker (providers; needs the enclave workspace)')
    }
    if (named('bench')) (await loadBenchCommand()).registerBench(program, streams)
    else program.command('bench').description('how fast a model answers as more readers come (needs the repository)')
    await program.parseAsync([...argv])
    return process.exitCode === undefined ? status : Number(process.exitCode)
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : MISUSE
    const message = error instanceof Error ? error.message : String(error)
    // It may quote a worker or a file.
    streams.stderr.write(`subrosa: ${error instanceof SubrosaError ? '' : 'unexpected: '}${printableLines(message)}\n`)
    if (argv.includes('--verbose') && error instanceof Error) {
      streams.stderr.write(`${printableLines(error.stack ?? '')}\n`)
    }
    return exitStatusOf(error)
  }
}

/** 2 for mistakes of the caller, 3 for a list that is none, 4 for what could not be reached, 1 for everything refused. */
function exitStatusOf(error: unknown): number {
  const code = error instanceof SubrosaError ? error.code : ''
  if (/^(option|url|file|policy|target|trust-anchor|intent)\.|^client\.(revocation-off|any-measurement)$/.test(code))
    return MISUSE
  if (code === 'directory.format') return 3
  if (/^worker\.|^directory\.(status|media-type)$|^transport\.unavailable$/.test(code)) return 4
  return 1
}

/** What `model` does with packages on disk is the enclave workspace's; without it, `release` still works. */
async function registerHere(model: Command): Promise<void> {
  try {
    ;(await loadWorkerCommands()).registerModel(model)
    // Importers live with the developers' tools, and are not in the image.
    const tools = (await import(new URL('../scripts/model/commands.js', import.meta.url).href)) as ModelTools
    tools.registerModelTools(model)
  } catch (error) {
    if (!(error instanceof SubrosaError)) throw error
    model.command('seal').description('encrypt the weights of a package (needs the enclave workspace)')
  }
}

function loadImageCommands(): Promise<ImageCommands> {
  const missing = 'the image’s sources are not part of this package; clone the repository and run: npm run image'
  return loadOwn('../scripts/image/cli.js', 'image.not-installed', missing)
}

function loadBenchCommand(): Promise<BenchCommand> {
  const missing =
    'the bench is not part of this package; clone the repository and run: npm run build && npx subrosa bench'
  return loadOwn('../scripts/load/command.js', 'bench.not-installed', missing)
}

function loadWorkerCommands(): Promise<WorkerCommands> {
  const missing =
    'the worker is not part of this package; clone the repository and run: npm run build && npx subrosa serve'
  return loadOwn('../enclave/cli.js', 'serve.not-installed', missing)
}

/** A module of the repository that the published package leaves out. @throws SubrosaError with this code when it is not there. */
async function loadOwn<T>(path: string, code: string, missing: string): Promise<T> {
  try {
    return (await import(new URL(path, import.meta.url).href)) as T
  } catch (cause) {
    if ((cause as { code?: unknown }).code !== 'ERR_MODULE_NOT_FOUND') throw cause
    throw new SubrosaError(code, missing, { cause })
  }
}
