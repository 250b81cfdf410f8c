/** `verify-attestation` as its users type it: exit status, what goes to which stream, and the contract's JSON object. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { encodeBundle, parseBundle } from '../../verifier/protocol/bundle.js'
import { VERSION } from '../../verifier/version.js'
import { verifyAttestation } from '../support/command.js'
import { vectorPath, withoutVectors } from '../support/vectors.js'
import { policyFor, type RunningWorker, startWorker, tapWire } from '../support/worker.js'

let worker: RunningWorker
let folder: string
let policyFile: string
let anchorFile: string
const file = (name: string) => join(folder, name)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-cli-'))
  worker = await startWorker()
  policyFile = file('policy.json')
  anchorFile = file('anchor.pem')
  await writeFile(policyFile, JSON.stringify(await policyFor(worker)))
  await writeFile(anchorFile, worker.rootsPem ?? '')
})

afterAll(async () => {
  await worker.close()
  await rm(folder, { recursive: true, force: true })
})

const CONTRACT = [
  'schema',
  'verdict',
  'exitCode',
  'evidence',
  'checks',
  'notProven',
  'endorsements',
  'policy',
  'evaluatedAt',
]

describe('a live worker', () => {
  it('is accepted under a policy that names its root, and the verdict says SIMULATED', async () => {
    const { status, stdout, stderr } = await verifyAttestation(worker.url, '--policy', policyFile)
    expect(stderr).toBe('')
    expect(stdout).toMatch(/^ACCEPTED {2}a SIMULATED OR PRIVATE AMD SEV-SNP \(Genoa\) VM, running subrosa/)
    expect(stdout).toContain('Not proven: SIMULATED OR PRIVATE hardware')
    expect(stdout).toMatch(/gpu +simulated +1 x GH100 driver/)
    expect(status).toBe(0)
  })

  it('prints the one JSON object of the contract', async () => {
    const { status, stdout } = await verifyAttestation(worker.url, '--policy', policyFile, '--format', 'json')
    const object = JSON.parse(stdout) as Record<string, unknown>
    expect(Object.keys(object)).toEqual(CONTRACT)
    expect(object).toMatchObject({ schema: 'subrosa-attestation-result/1', verdict: 'accepted', exitCode: 0 })
    for (const check of object['checks'] as Record<string, unknown>[]) {
      expect(Object.keys(check).filter((key) => !['reason', 'expected', 'actual'].includes(key))).toEqual([
        'id',
        'title',
        'spec',
        'status',
      ])
      if (check['status'] !== 'pass') expect(check['reason']).toBeTruthy()
    }
    expect(status).toBe(0)
  })

  it('is rejected without its root, even when everything about software is waived', async () => {
    const flags = ['--any-measurement', '--gpu', 'none', '--model-digest', 'any']
    const { status, stdout } = await verifyAttestation(worker.url, ...flags)
    expect(stdout).toMatch(/^REJECTED {2}not proven genuine/)
    expect(stdout).toContain('x snp.chain.root')
    expect(status).toBe(1)
    const trusted = await verifyAttestation(worker.url, ...flags, '--trust-anchor', anchorFile)
    expect(trusted.stdout).toContain('SIMULATED OR PRIVATE')
    expect(trusted.status).toBe(0)
  })

  it('is rejected when no software is identified', async () => {
    const flags = ['--gpu', 'none', '--model-digest', 'any', '--trust-anchor', anchorFile]
    const { status, stdout } = await verifyAttestation(worker.url, ...flags)
    expect(stdout).toContain('software not identified')
    expect(status).toBe(1)
  })

  it('is unavailable when nobody answers', async () => {
    const tap = await tapWire(worker.url)
    await tap.close()
    const { status, stdout, stderr } = await verifyAttestation(tap.url)
    expect(stdout).toBe('')
    expect(stderr).toMatch(/^verify-attestation: cannot reach http:\/\/127\.0\.0\.1:\d+: connection refused/)
    expect(status).toBe(4)
  })
})

describe('a saved bundle', () => {
  it('re-verifies offline to the same checks, with freshness asserted, not proven (P-6.3)', async () => {
    const live = await verifyAttestation(
      worker.url,
      '--policy',
      policyFile,
      '--save',
      file('a.bundle'),
      '--format',
      'json',
    )
    expect(live.stderr).toMatch(/^saved \d+ bytes to /)
    const saved = await verifyAttestation(file('a.bundle'), '--policy', policyFile, '--offline', '--format', 'json')
    const ids = (text: string) =>
      (JSON.parse(text).checks as { id: string; status: string }[]).map((c) => `${c.id} ${c.status}`)
    expect(ids(saved.stdout)).toEqual(
      ids(live.stdout).map((line) => line.replace('binding.nonce pass', 'binding.nonce skip')),
    )
    expect(saved.stdout).toContain('time and freshness asserted, not proven')
    expect(saved.status).toBe(0)
  })

  it('contains the nonce it answered, and no other', async () => {
    const nonce = Buffer.from(parseBundle(new Uint8Array(await readFile(file('a.bundle')))).nonceProof!.nonce).toString(
      'hex',
    )
    const right = await verifyAttestation(file('a.bundle'), '--policy', policyFile, '--nonce', nonce)
    expect(right.status).toBe(0)
    const wrong = await verifyAttestation(file('a.bundle'), '--policy', policyFile, '--nonce', 'ab'.repeat(32))
    expect(wrong.stdout).toContain('x binding.nonce')
    expect(wrong.status).toBe(1)
  })

  it('is rejected once it has expired, naming what did', async () => {
    const later = new Date(Date.now() + 2 * 3600_000).toISOString()
    const { status, stdout } = await verifyAttestation(file('a.bundle'), '--policy', policyFile, '--at', later)
    expect(stdout).toContain('x freshness.window')
    expect(stdout).toContain('x keys.window')
    expect(status).toBe(1)
  })

  it('is malformed when it was cut short or damaged', async () => {
    const bytes = await readFile(file('a.bundle'))
    await writeFile(file('cut.bundle'), bytes.subarray(0, bytes.length - 10))
    const cut = await verifyAttestation(file('cut.bundle'), '--policy', policyFile)
    expect(cut.stdout).toMatch(/^MALFORMED/)
    expect(cut.status).toBe(3)
    bytes[200] = bytes[200]! ^ 1
    await writeFile(file('damaged.bundle'), bytes)
    expect((await verifyAttestation(file('damaged.bundle'), '--policy', policyFile)).status).toBe(3)
  })

  it('is unavailable without the revocation list it needs', async () => {
    const bundle = parseBundle(new Uint8Array(await readFile(file('a.bundle'))))
    const endorsements = bundle.endorsements.filter((item) => item.type !== 'application/pkix-crl')
    await writeFile(file('no-crl.bundle'), encodeBundle({ ...bundle, endorsements }))
    const { status, stdout } = await verifyAttestation(file('no-crl.bundle'), '--policy', policyFile, '--offline')
    expect(stdout).toContain('- snp.crl.present')
    expect(stdout).toMatch(/^UNAVAILABLE/)
    expect(status).toBe(4)
  })

  it('prefers rejected to unavailable when both apply', async () => {
    const flags = ['--policy', policyFile, '--offline', '--model-digest', 'cd'.repeat(32)]
    const { status, stdout } = await verifyAttestation(file('no-crl.bundle'), ...flags)
    expect(stdout).toContain('x model.digest')
    expect(status).toBe(1)
  })
})

describe('misuse: status 2, one sentence, nothing on standard output', () => {
  it.each<[string, string[], RegExp]>([
    ['no target', [], /name a worker URL, a bundle or a report/],
    ['an unknown option', ['x', '--frobnicate'], /unknown option '--frobnicate'/],
    ['a missing file', ['/nowhere/report.bin'], /cannot read evidence \/nowhere\/report\.bin: there is no such file/],
    ['a folder', ['/tmp'], /is a folder; name a file/],
    ['missing endorsements', ['x', '--endorsements', '/nowhere'], /cannot read endorsements \/nowhere/],
    ['a missing policy', ['x', '--policy', '/nowhere.yaml'], /cannot read policy \/nowhere\.yaml/],
    ['a bad time', ['x', '--at', 'yesterday'], /expected an RFC 3339 time/],
    ['a bad nonce', ['x', '--nonce', 'xyz'], /--nonce: expected 1 to 64 bytes of hexadecimal/],
    ['a bad revocation mode', ['x', '--revocation', 'maybe'], /--revocation: expected required, available, off/],
    ['a bad floor', ['x', '--tcb-floor', 'high'], /floor/i],
    ['a bad GPU mode', ['x', '--gpu', 'some'], /--gpu: expected required, none/],
    ['a bad model digest', ['x', '--model-digest', '12'], /--model-digest: expected 64 hexadecimal digits/],
    ['a bad format', ['x', '--format', 'pdf'], /Allowed choices are text, json/],
    ['a bad anchor', ['x', '--trust-anchor', '/dev/null'], /trust anchor|certificate/],
    ['an unknown check', ['--explain', 'snp.policy.debag'], /did you mean snp\.policy\.debug\?/],
    ['a URL of another scheme', ['http://user:pw@127.0.0.1'], /carries no credentials/],
  ])('%s', async (_, argv, message) => {
    const { status, stdout, stderr } = await verifyAttestation(...argv)
    expect(stdout).toBe('')
    expect(stderr).toMatch(message)
    expect(stderr).not.toMatch(/\n\s+at /)
    expect(status).toBe(2)
  })

  it.each<[string, string, RegExp]>([
    [
      'an unknown key',
      'schema: subrosa-policy/1\nmesurements: any\n',
      /unknown key "mesurements" \(did you mean "measurements"\?\)/,
    ],
    [
      'a nested unknown key',
      'schema: subrosa-policy/1\nfreshness:\n  keySecond: 60\n',
      /unknown key "freshness\.keySecond" \(did you mean "keySeconds"\?\)/,
    ],
    ['an empty expectation', 'schema: subrosa-policy/1\nmeasurements: []\n', /measurements/],
    ['a digest of zeros', `schema: subrosa-policy/1\nmodel:\n  digests: ["${'0'.repeat(64)}"]\n`, /model/],
    ['another schema', 'schema: subrosa-policy/9\n', /expected schema: subrosa-policy\/1/],
    ['an anchor without permission', 'schema: subrosa-policy/1\ntrustAnchors: ["x"]\n', /trustAnchors/],
    ['permission without an anchor', 'schema: subrosa-policy/1\nallowNonVendorRoot: true\n', /names no root/],
    ['a repeated key', 'schema: subrosa-policy/1\ngpu: none\ngpu: required\n', /unique/],
    ['YAML that does not parse', 'schema: [', /line/],
  ])('a policy with %s', async (_, text, message) => {
    await writeFile(file('bad.yaml'), text)
    const { status, stdout, stderr } = await verifyAttestation(worker.url, '--policy', file('bad.yaml'))
    expect(stdout).toBe('')
    expect(stderr).toMatch(message)
    expect(status).toBe(2)
  })
})

describe('help', () => {
  it('prints the version and a help that fits a screen', async () => {
    expect((await verifyAttestation('--version')).stdout.trim()).toBe(VERSION)
    const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8')) as {
      version: string
    }
    expect(version).toBe(VERSION)
    const help = await verifyAttestation('--help')
    expect(help.status).toBe(0)
    expect(help.stdout.split('\n').length).toBeLessThan(40)
  })

  it('explains a check: what it means, what an attacker gains, where it is written', async () => {
    const { status, stdout } = await verifyAttestation('--explain', 'snp.policy.debug')
    expect(stdout).toMatch(/Without it: /)
    expect(stdout).toMatch(/Source: /)
    expect(status).toBe(0)
  })
})

describe('things that are no evidence', () => {
  it.each<[string, Uint8Array | string]>([
    ['an empty file', ''],
    ['text', 'hello, world'],
    ['JSON', '{"hello": "world"}'],
    ['zeros', new Uint8Array(100)],
    ['a short report', new Uint8Array(1183).fill(2)],
  ])('%s is malformed', async (_, contents) => {
    await writeFile(file('nothing'), contents)
    const { status, stdout } = await verifyAttestation(file('nothing'))
    expect(stdout).toMatch(/^MALFORMED/)
    expect(status).toBe(3)
  })

  it('a raw TDREPORT is called one; a report cut to its length is still a report cut short', async () => {
    await writeFile(file('tdreport'), new Uint8Array(1024).fill(0x81))
    const tdReport = await verifyAttestation(file('tdreport'), '--offline')
    expect(tdReport.stdout.replace(/\s+/g, ' ')).toContain('1024 bytes are a raw TDREPORT, which nobody signed')
    expect(tdReport.status).toBe(3)
    await writeFile(file('cut'), new Uint8Array(1024).fill(2, 0, 1))
    expect((await verifyAttestation(file('cut'), '--offline')).stdout).toContain('snp.report.parse')
  })

  it('`gpu` with no file at all is misuse; switches alone are not', async () => {
    const { status, stdout, stderr } = await verifyAttestation('gpu', '--offline')
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toContain('--switch')
    await writeFile(file('switch'), 'no evidence')
    expect((await verifyAttestation('gpu', '--switch', file('switch'), '--offline')).status).toBe(3)
  })

  it('`gpu nras` trusts the remote verifier unless a policy file leaves it refused', async () => {
    const part = (json: string) => Buffer.from(json).toString('base64url')
    const token = [part('{"alg":"ES384","kid":"nobody"}'), part('{}'), part('nothing')].join('.')
    await writeFile(file('response'), JSON.stringify([['JWT', token], { 'GPU-0': token }]))
    await writeFile(file('policy'), 'schema: subrosa-policy/1\n')
    const trusted = async (...more: string[]) => {
      const { stdout } = await verifyAttestation(
        'gpu',
        'nras',
        file('response'),
        '--offline',
        '--format',
        'json',
        ...more,
      )
      const { checks } = JSON.parse(stdout) as { checks: { id: string; status: string }[] }
      return checks.find(({ id }) => id === 'gpu.nras.trusted')?.status
    }
    expect([await trusted(), await trusted('--policy', file('policy'))]).toEqual(['pass', 'fail'])
  })
})

describe.skipIf(withoutVectors)('captured SNP reports (skipped where there are none)', () => {
  const run = (name: string, ...more: string[]) =>
    verifyAttestation(
      ...[name.startsWith('/') ? name : vectorPath('snp', `${name}-report.bin`), '--endorsements'],
      ...[vectorPath('snp'), vectorPath('roots')],
      ...['--offline', '--any-measurement', '--tcb-floor', 'none', '--format', 'json', ...more],
    )
  const march = ['--at', '2026-03-01T00:00:00Z', '--revocation', 'available']

  it.each(['siena-v5-baremetal', 'genoa-v3-aci', 'turin-v5-aci'])('%s is accepted with its own chain', async (name) => {
    const { status, stdout } = await run(name, ...march)
    expect(Object.keys(JSON.parse(stdout) as object)).toEqual(CONTRACT)
    expect(status).toBe(0)
  })

  it('milan-v2-azure is accepted with revocation required, in the time of its list', async () => {
    expect((await run('milan-v2-azure', '--at', '2025-06-01T00:00:00Z')).status).toBe(0)
  })

  it('milan-v2-fw149 is rejected by the debug check alone', async () => {
    const { status, stdout } = await run('milan-v2-fw149', '--at', '2025-06-01T00:00:00Z')
    const { checks } = JSON.parse(stdout) as { checks: { id: string; status: string }[] }
    expect(checks.filter((check) => check.status === 'fail').map((check) => check.id)).toEqual(['snp.policy.debug'])
    expect(status).toBe(1)
  })

  it('no flipped byte of any of them is accepted', async () => {
    for (const name of ['siena-v5-baremetal', 'genoa-v3-aci', 'turin-v5-aci']) {
      const bytes = await readFile(vectorPath('snp', `${name}-report.bin`))
      for (let i = 0; i < 8; i++) {
        const at = Math.floor((i * bytes.length) / 8) + 3
        const flipped = Buffer.from(bytes)
        flipped[at] = flipped[at]! ^ 0x20
        await writeFile(file('flipped.bin'), flipped)
        expect([1, 3]).toContain((await run(file('flipped.bin'), ...march)).status)
      }
    }
  })

  it('reads hex and base64 like the binary', async () => {
    const bytes = await readFile(vectorPath('snp', 'siena-v5-baremetal-report.bin'))
    await writeFile(file('report.hex'), `${bytes.toString('hex')}\n`)
    await writeFile(file('report.b64'), bytes.toString('base64'))
    expect((await run(file('report.hex'), ...march)).status).toBe(0)
    expect((await run(file('report.b64'), ...march)).status).toBe(0)
  })

  it('without --any-measurement a genuine report is rejected: software not identified', async () => {
    const argv = [
      vectorPath('snp', 'siena-v5-baremetal-report.bin'),
      '--endorsements',
      vectorPath('snp'),
      vectorPath('roots'),
    ]
    const { status, stdout } = await verifyAttestation(...argv, '--offline', '--tcb-floor', 'none', ...march)
    expect(stdout).toContain('software not identified')
    expect(status).toBe(1)
  })
})

describe.skipIf(withoutVectors)('captured TDX quotes (skipped where there are none)', () => {
  const run = (name: string, endorsements: string, at: string, ...more: string[]) =>
    verifyAttestation(
      ...[vectorPath('tdx', name), '--endorsements', vectorPath('tdx', endorsements), vectorPath('roots')],
      ...['--offline', '--any-measurement', '--at', at, '--format', 'json', ...more],
    )
  const failing = (stdout: string) =>
    (JSON.parse(stdout) as { checks: { id: string; status: string }[] }).checks
      .filter((check) => check.status === 'fail')
      .map((check) => check.id)

  it('an up-to-date quote with its collateral is accepted', async () => {
    const collateral = 'v4-b0c06f-uptodate-collateral-2025-06.json'
    const { status, stdout } = await run('v4-b0c06f-uptodate-quote.bin', collateral, '2025-06-25T00:00:00Z')
    expect(Object.keys(JSON.parse(stdout) as object)).toEqual(CONTRACT)
    expect(status).toBe(0)
    const late = await run('v4-b0c06f-uptodate-quote.bin', collateral, '2025-09-01T00:00:00Z')
    expect(late.status).toBe(1)
    const bare = await run('v4-b0c06f-uptodate-quote.bin', '../roots', '2025-06-25T00:00:00Z')
    expect(bare.status).toBe(4)
  })

  it('a status other than UpToDate is accepted only when it is named', async () => {
    const argv = ['v4-b0c06f-dstack-tappd-below-tcb-quote.hex', 'v4-b0c06f-uptodate-collateral-2025-06.json'] as const
    const strict = await run(...argv, '2025-06-25T00:00:00Z')
    expect(failing(strict.stdout).every((id) => id.startsWith('tdx.tcb.'))).toBe(true)
    expect(strict.status).toBe(1)
    const misuse = await run(...argv, '2025-06-25T00:00:00Z', '--tcb-status', 'Revoked')
    expect(misuse.stdout).toBe('')
    expect(misuse.status).toBe(2)
  })

  it('a debug TD and an SGX quote are refused by name', async () => {
    const debug = await run('v4-50806f-debug-td-quote.bin', '.', '2023-07-01T00:00:00Z')
    expect(failing(debug.stdout)).toEqual(['tdx.policy.debug'])
    expect(debug.status).toBe(1)
    const sgx = await run('wrong-tee-sgx-v3-quote.bin', '.', '2025-06-25T00:00:00Z')
    expect(failing(sgx.stdout)[0]).toMatch(/^tdx\.quote\.(version|tee-type)$/)
    expect([1, 3]).toContain(sgx.status)
  })
})
