/**
 * The same evidence under the same policy gives the same JSON in Chromium as on the command line: every captured case of all
 * three vendors, and bundles bent in ways of every kind. Skipped, by name, without a browser or without the evidence.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { startExplorer } from '../../client/explorer/server.js'
import type { LocalDoor } from '../../client/local-door.js'
import { loadEndorsements } from '../../verifier/files.js'
import { ACCEPTED_NRAS, STRICT_GPU_POLICY } from '../../verifier/gpu/policy.js'
import { addVerificationOptions, resolveFlags, type VerificationFlags } from '../../verifier/options.js'
import type { AppraisalPolicy } from '../../verifier/policy.js'
import { addPrintOptions } from '../../verifier/print.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { encodeCbor } from '../../verifier/protocol/cbor.js'
import { KEM_X25519_HKDF_SHA256 } from '../../verifier/protocol/hpke.js'
import { nvidiaCommand, snpCommand, tdxCommand } from '../cli/conformance.js'
import { readCases as nvidiaCases } from '../gpu/cases.js'
import { readCases as snpCases } from '../snp/cases.js'
import { type Bend, createWorld, makeBundle } from '../support/bundle-world.js'
import { verifyAttestation } from '../support/command.js'
import { filled } from '../support/samples.js'
import { tally } from '../support/tally.js'
import { vectorsFolder } from '../support/vectors.js'
import { readCases as tdxCases } from '../tdx/cases.js'
import { launchBrowser, withoutBrowser } from './browser.js'

interface Flags extends VerificationFlags {
  readonly switch?: readonly string[]
  readonly jwks?: readonly string[]
}

/** What a command line asks for, in a form that crosses into a page. Bytes are base64. */
interface Crossing {
  readonly kind: 'evidence' | 'gpu' | 'rim' | 'nras'
  readonly files: readonly string[]
  readonly switches: readonly string[]
  readonly endorsements: readonly { readonly name: string; readonly bytes: string }[]
  readonly policy: object
  readonly anchors: readonly string[]
  readonly now: string
  readonly nonce?: string
  readonly reportData?: string
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64')

async function crossingOf(argv: readonly string[]): Promise<Crossing> {
  const gpu = argv[0] === 'gpu'
  const sub = gpu && (argv[1] === 'rim' || argv[1] === 'nras') ? argv[1] : undefined
  const command = addVerificationOptions(addPrintOptions(new Command()))
    .argument('[file...]')
    .option('--switch <file...>')
    .option('--jwks <file...>')
  command.parse([...argv.slice(sub !== undefined ? 2 : gpu ? 1 : 0)], { from: 'user' })
  const flags = command.opts<Flags>()
  const { policy, at, nonce, reportData } = await resolveFlags(flags)
  const { trustAnchors: _, releases: __, ...plain } = policy
  const asked = sub === 'nras' && flags.policy === undefined && plain.gpu !== 'none'
  const read = (path: string): string => base64(readFileSync(path))
  const endorsements = await loadEndorsements([...(flags.endorsements ?? []), ...(flags.jwks ?? [])])
  return {
    kind: sub ?? (gpu ? 'gpu' : 'evidence'),
    files: command.args.map(read),
    switches: (flags.switch ?? []).map(read),
    endorsements: endorsements.map(({ name, bytes }) => ({ name, bytes: base64(bytes) })),
    policy: asked ? { ...plain, gpu: { ...STRICT_GPU_POLICY, nras: ACCEPTED_NRAS } } : plain,
    anchors: (flags.trustAnchor ?? []).map(read),
    now: (at ?? new Date()).toISOString(),
    ...(nonce === undefined ? {} : { nonce: base64(nonce) }),
    ...(reportData === undefined ? {} : { reportData: base64(reportData) }),
  }
}

/** Runs in the page, over the very module the page itself runs. */
async function appraiseInPage(crossing: Crossing): Promise<string> {
  const { page } = globalThis as unknown as { readonly page: typeof import('../../client/explorer/app.js') }
  const bytes = (text: string): Bytes => new Uint8Array([...atob(text)].map((c) => c.charCodeAt(0)))
  const { kind, now, nonce, reportData } = crossing
  const trustAnchors = crossing.anchors.flatMap((pem) => page.parseTrustAnchors(bytes(pem)))
  const options = {
    policy: { ...crossing.policy, trustAnchors } as unknown as AppraisalPolicy,
    endorsements: page.sortEndorsements(crossing.endorsements.map((item) => ({ ...item, bytes: bytes(item.bytes) }))),
    now: new Date(now),
    ...(nonce === undefined ? {} : { nonce: bytes(nonce) }),
    ...(reportData === undefined ? {} : { reportData: bytes(reportData) }),
  }
  const [first = '', ...more] = crossing.files
  const evidence = (text: string): Bytes => page.detectEvidence(bytes(text)).bytes
  const result =
    kind === 'evidence'
      ? await page.verifyEvidence(bytes(first), options)
      : kind === 'rim'
        ? await page.verifyRimFile(bytes(first), options)
        : kind === 'nras'
          ? await page.verifyNrasResponse(bytes(first), options)
          : await page.verifyGpuEvidence(
              (first === '' ? [] : [first, ...more]).map(evidence),
              crossing.switches.map(evidence),
              options,
            )
  return JSON.stringify(page.resultToJson(result))
}

describe.skipIf(withoutBrowser)('in Chromium as on the command line', () => {
  let browser: Browser
  let door: LocalDoor
  let page: Page
  const root = mkdtempSync(join(tmpdir(), 'subrosa-parity-'))

  beforeAll(async () => {
    const built = (await import(new URL('../../dist/client/explorer/server.js', import.meta.url).href)) as {
      startExplorer: typeof startExplorer
    }
    door = await built.startExplorer(0)
    browser = await launchBrowser()
    const context = await browser.newContext({ httpCredentials: { username: 'x', password: door.token } })
    page = await context.newPage()
    await page.goto(`${door.origin}/`)
    // As text: the test runner would rewrite the import into its own.
    await page.evaluate("import('/app.js').then((module) => { globalThis.page = module })")
  })

  afterAll(async () => {
    await browser.close()
    await door.close()
    rmSync(root, { recursive: true, force: true })
  })

  async function expectSame(argv: readonly string[]): Promise<void> {
    const { stdout } = await verifyAttestation(...argv)
    const found = await page.evaluate(appraiseInPage, await crossingOf(argv))
    expect(JSON.parse(found)).toEqual(JSON.parse(stdout))
  }

  describe.skipIf(vectorsFolder === undefined)('captured evidence (skipped without SUBROSA_VECTORS)', () => {
    const vectors = vectorsFolder ?? ''
    const commands: [string, () => readonly string[]][] = [
      ...snpCases().map(([name, c]): [string, () => readonly string[]] => [name, () => snpCommand(placeOf(name), c)]),
      ...tdxCases().map(([name, c]): [string, () => readonly string[]] => [name, () => tdxCommand(placeOf(name), c)]),
      ...nvidiaCases().map(([name, c]): [string, () => readonly string[]] => [
        name,
        () => nvidiaCommand(placeOf(name), c),
      ]),
    ]
    const counted = tally('browser.parity', commands.length)
    const placeOf = (name: string) => ({ vectors, folder: join(root, name.replaceAll('/', '_')) })

    it.each(commands)(
      '%s',
      counted(async (_, command) => expectSame(command())),
    )
  })

  it('bundles, good and bent', async () => {
    const world = await createWorld()
    const other = await createWorld()
    const seconds = Math.floor(world.now.getTime() / 1000)
    const bends: readonly Bend[] = [
      {},
      { claims: () => encodeCbor([1]) },
      { reportData: filled(9, 64) },
      { statement: (statement) => ({ ...statement, configDigest: filled(99) }) },
      { withoutGpus: true },
      { gpuDigests: () => [filled(1)] },
      { gpuNonce: filled(8) },
      { fresh: (fresh) => ({ ...fresh, issuedAt: seconds - 3000, expiresAt: seconds - 1 }) },
      { kemId: KEM_X25519_HKDF_SHA256 },
      { keyWindow: [seconds - 500, seconds - 1] },
      { signKeysWith: other.identity.privateKey },
      { operator: 'none' },
      { operatorAge: 90_000 },
      { bundle: (whole) => ({ ...whole, endorsements: [] }) },
      { bundle: (whole) => ({ ...whole, endorsements: whole.endorsements.slice(1) }) },
      { statement: (s) => ({ ...s, serving: { ...s.serving, padding: 'off' } }) },
    ]
    const policy = join(root, 'policy.json')
    const roots = join(root, 'roots.pem')
    const { trustAnchors, allowNonVendorRoot: _, ...rest } = world.policy
    writeFileSync(policy, JSON.stringify(rest))
    writeFileSync(roots, trustAnchors?.join('') ?? '')
    const verdicts: string[] = []
    for (const [i, bend] of bends.entries()) {
      const path = join(root, `${i}.bundle`)
      writeFileSync(path, await makeBundle(world, bend))
      const argv = [path, '--policy', policy, '--trust-anchor', roots, '--at', world.now.toISOString()]
      await expectSame([...argv, '--offline', '--format', 'json'])
      verdicts.push(JSON.parse((await verifyAttestation(...argv, '--offline', '--format', 'json')).stdout).verdict)
    }
    console.log(JSON.stringify({ suite: 'browser.bundles', cases: bends.length, passed: verdicts.length }))
    expect(new Set(verdicts)).toEqual(new Set(['accepted', 'rejected', 'unavailable', 'malformed']))
  })
})
