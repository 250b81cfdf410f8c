/**
 * `npm run demo`: the whole product in under a minute. A SIMULATED worker, its attestation check by check, a sealed prompt,
 * the answer as it streams, its receipt, and three impostors being refused. Exit status 0 only if all of it was true.
 */
import { readFile } from 'node:fs/promises'
import { connect, NotTrustedError, type PolicyDocument, type WorkerSession } from '../client/index.js'
import { loadModelPackage, modelClaims } from '../enclave/inference/package.js'
import { defaultModelDirectory, type RunningWorker, serve } from '../enclave/serve.js'
import { toHex } from '../verifier/protocol/bytes.js'
import { ALL_CHECKS } from '../verifier/registry.js'
import { forStream, terminalStyle } from '../verifier/terminal.js'
import { printable, renderResult } from '../verifier/text.js'
import { SIMULATED_LAUNCH_DIGEST } from './simulated/snp-platform.js'

const style = terminalStyle(process.stdout)
const write = (text: string): void => void process.stdout.write(forStream(process.stdout, text))
const say = (text = ''): void => write(`${text}\n`)
const title = (text: string): void => say(`\n${style.strong(`── ${text}`)}\n`)
const running: RunningWorker[] = []
const PROMPT = 'What does attestation prove?'

/** Progress on slow steps goes to standard error, so that the transcript stays clean. */
async function slowly<T>(what: string, work: () => Promise<T>): Promise<T> {
  const started = Date.now()
  process.stderr.write(style.dim(`${what}…`))
  const result = await work()
  process.stderr.write(style.dim(` ${((Date.now() - started) / 1000).toFixed(1)} s\n`))
  return result
}

async function startWorker(what: string, options: { launchDigest?: Uint8Array } = {}): Promise<RunningWorker> {
  const { launchDigest } = options
  const worker = await slowly(what, () =>
    serve({
      simulated: true,
      port: 0,
      ...(launchDigest === undefined ? {} : { simulatedLaunchDigest: new Uint8Array(launchDigest) }),
    }),
  )
  running.push(worker)
  return worker
}

/** The policy of someone who tries this out: it names the throw-away roots, one launch digest and one model. */
async function demoPolicy(...workers: readonly RunningWorker[]): Promise<PolicyDocument> {
  const model = modelClaims(await loadModelPackage(defaultModelDirectory()))
  return {
    schema: 'subrosa-policy/1',
    trustAnchors: workers.map((worker) => worker.rootsPem ?? ''),
    allowNonVendorRoot: true,
    measurements: [{ digest: toHex(SIMULATED_LAUNCH_DIGEST), name: 'the simulated platform' }],
    model: { digests: [toHex(model.manifestDigest)] },
  }
}

async function chat(session: WorkerSession): Promise<void> {
  const response = await session.fetch(`${session.baseURL}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: session.worker.statement.model.id,
      messages: [{ role: 'user', content: PROMPT }],
      temperature: 0,
      stream: true,
    }),
  })
  say(`you     ${PROMPT}`)
  write('worker  ')
  let answer = ''
  let tokens = 0
  for await (const text of deltas(response)) {
    write(printable(text))
    answer += text
    tokens++
  }
  say('\n')
  expect(response.status === 200 && answer.length > 20, 'the worker answered')
  say(style.dim(`${tokens} pieces, streamed; nothing on the way could be read or cut short unnoticed`))

  title('The receipt')
  const receipt = await session.receipt(response)
  for (const check of receipt.checks)
    say(`  ${check.status === 'pass' ? style.good('ok') : style.bad('x ')} ${check.title}`)
  expect(receipt.verdict === 'accepted', 'the receipt holds')
  const { usage, model, seed } = receipt.payload ?? {}
  say(`\n  ${usage?.prompt_tokens} tokens in, ${usage?.completion_tokens} out, model ${model?.id}, seed ${seed}`)
  say(style.dim(`  ${receipt.jws.slice(0, 72)}…`))
}

/** Text of a streamed chat answer. */
async function* deltas(response: Response): AsyncGenerator<string> {
  const { EventSourceParserStream } = await import('eventsource-parser/stream')
  const events = response.body
    ?.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
    .pipeThrough(new EventSourceParserStream())
  for await (const { data } of events ?? []) {
    if (data === '[DONE]') continue
    const chunk = JSON.parse(data) as { choices?: { delta?: { content?: string } }[] }
    const text = chunk.choices?.[0]?.delta?.content
    if (text !== undefined && text !== '') yield text
  }
}

/** Connects and expects a refusal by exactly that check, with nothing sealed sent. */
async function refused(name: string, url: string, policy: PolicyDocument, check: string, via = fetch): Promise<void> {
  let sealed = 0
  const counting: typeof fetch = (input, init) => {
    if (init?.method === 'POST') sealed++
    return via(input, init)
  }
  try {
    await connect(url, { policy, fetch: counting })
  } catch (error) {
    if (!(error instanceof NotTrustedError)) throw error
    say(`  ${style.good('refused')}  ${name}`)
    say(`           ${printable(error.message)}`)
    expect(error.checks[0] === check, `${name} is refused by ${check}`)
    expect(sealed === 0, 'nothing was sent')
    return
  }
  expect(false, `${name} is refused`)
}

function expect(condition: boolean, what: string): void {
  if (!condition) throw new Error(`the demo expected that ${what}; it was not so`)
}

async function main(): Promise<void> {
  const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  say(`${style.strong(`subrosa ${version}`)}: confidential LLM inference that its users can check`)
  say(style.bad('The hardware of this demo is SIMULATED. It shows every step and protects nothing.'))

  title('A worker')
  const worker = await startWorker('making throw-away hardware keys and loading the model')
  say(`  listening on ${worker.url}, model ${worker.model.id}, attestation SIMULATED SEV-SNP`)

  title('Its attestation, check by check')
  const session = await connect(worker.url, { policy: await demoPolicy(worker) })
  say(renderResult(session.attestation, { style, registry: ALL_CHECKS, all: true }).trimEnd())

  title('A sealed prompt')
  await chat(session)

  title('Impostors')
  const other = await startWorker('starting a worker with other software', {
    launchDigest: new Uint8Array(48).fill(0x99),
  })
  const twin = await startWorker('starting a worker under a root nobody listed')
  await refused(
    'other software on a listed platform',
    other.url,
    await demoPolicy(worker, other),
    'reference.measurement',
  )
  await refused('the same software under an unlisted root', twin.url, await demoPolicy(worker), 'snp.chain.root')
  const recorded = await fetch(`${worker.url}/.well-known/attestation`)
  const recording = new Uint8Array(await recorded.arrayBuffer())
  const replay: typeof fetch = async () =>
    new Response(recording, { headers: { 'content-type': recorded.headers.get('content-type') ?? '' } })
  await refused(
    'a recording of the true worker’s evidence',
    worker.url,
    await demoPolicy(worker),
    'binding.nonce',
    replay,
  )

  say(`\n${style.good('All of it held.')} Next: npx subrosa serve --simulated, and README.md.`)
}

try {
  await main()
} catch (error) {
  say(`\n${style.bad('FAILED')}  ${error instanceof Error ? error.message : String(error)}`)
  if (process.argv.includes('--verbose') && error instanceof Error) say(error.stack)
  process.exitCode = 1
} finally {
  await Promise.all(running.map((worker) => worker.close()))
}
