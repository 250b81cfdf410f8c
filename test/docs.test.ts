/** The documents say what is so: the transcript is the demo's own output, examples parse, links lead somewhere. */
import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { parseDescriptorSource } from '../verifier/directory/descriptor.js'
import { resolvePolicy } from '../verifier/policy.js'
import { ALL_CHECKS } from '../verifier/registry.js'
import { subrosa, verifyAttestation } from './support/command.js'
import { startWorker } from './support/worker.js'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const read = (name: string) => readFileSync(join(root, name), 'utf8')
const documents = ['README.md', 'PROTOCOL.md', 'SECURITY.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'docs/providers.md']

/** What differs from run to run: ports, digests, instants, seeds, signatures. Line breaks move with them. */
function steady(transcript: string): string {
  return transcript
    .replaceAll(/127\.0\.0\.1:\d+/g, '127.0.0.1:PORT')
    .replaceAll(/\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z/g, 'INSTANT')
    .replaceAll(/\d{4}-\d{2}-\d{2}/g, 'DATE')
    .replaceAll(/\b[0-9a-f]{16}\.\.\./g, 'DIGEST')
    .replaceAll(/seed \d+/g, 'seed N')
    .replaceAll(/\d+ s old/g, 'N s old')
    .replaceAll(/eyJ[\w.-]+/g, 'JWS')
    .replaceAll(/^\d+ pieces/gm, 'N pieces')
    .trim()
}

describe('README', () => {
  it('shows what the demo really prints', async () => {
    const block = /## What the demo prints\n\n```text\n([\s\S]*?)\n```/.exec(read('README.md'))?.[1] ?? ''
    const { stdout } = await promisify(execFile)(process.execPath, [join(root, 'dist', 'scripts', 'demo.js')])
    expect(steady(stdout)).toBe(steady(block))
  })

  it('leads from a worker’s address to a policy, as its transcript says', async () => {
    const block = /```console\n([\s\S]*?)```/.exec(read('README.md'))?.[1] ?? ''
    const worker = await startWorker()
    const folder = await mkdtemp(join(tmpdir(), 'subrosa-docs-'))
    try {
      await writeFile(join(folder, 'root.pem'), worker.rootsPem ?? '')
      for (const step of block.split(/^\$ verify-attestation /m).slice(1)) {
        const [command = '', ...expected] = step.split('\n')
        const [words = '', file] = command.split(' > ')
        const argv = words.split(' ').map((word) => {
          if (word === 'http://127.0.0.1:8080') return worker.url
          return /\.(pem|yaml)$/.test(word) ? join(folder, word) : word
        })
        const { stdout } = await verifyAttestation(...argv)
        if (file === undefined) expect(steady(stdout)).toBe(steady(expected.join('\n')))
        else await writeFile(join(folder, file), stdout)
      }
    } finally {
      await worker.close()
      await rm(folder, { recursive: true, force: true })
    }
  })

  it('has a policy that resolves', () => {
    const block = /```yaml\n([\s\S]*?)```/.exec(read('README.md'))?.[1] ?? ''
    expect(resolvePolicy(parse(block))).toMatchObject({ gpu: { minDriver: '550.90.07' }, revocation: 'required' })
  })
})

describe('docs/providers.md', () => {
  it('has a description of workers that can be signed as it is', () => {
    const block = /```yaml\n([\s\S]*?)```/.exec(read('docs/providers.md'))?.[1] ?? ''
    expect(parseDescriptorSource(parse(block)).endpoints).toHaveLength(1)
  })

  it.each(['README.md', 'docs/providers.md'])('and README name only options that exist: %s', async (name) => {
    const lines = [...read(name).matchAll(/npx subrosa (directory|route|proxy)\b([^\n]*(?:\\\n[^\n]*)*)/g)]
    expect(lines.length).toBeGreaterThan(2)
    for (const [, command = '', rest = ''] of lines) {
      const below = /^ (key|descriptor)\b/.exec(rest)?.[1]
      const { stdout } = await subrosa(command, ...(below === undefined ? [] : [below]), '--help')
      for (const [option] of rest.split(' # ')[0]?.matchAll(/--[a-z-]+/g) ?? []) expect(stdout).toContain(option)
    }
  })
})

describe('all documents', () => {
  it.each(documents)('%s links to files that exist', (name) => {
    const links = [...read(name).matchAll(/\]\(([^)#]+)\)/g)].map((match) => match[1] ?? '')
    expect(links.filter((link) => !link.startsWith('http') && !existsSync(join(root, link)))).toEqual([])
  })

  it.each(documents)('%s names only checks that exist', (name) => {
    const areas = [...new Set([...ALL_CHECKS.keys()].map((id) => id.split('.')[0]))].join('|')
    const cited = [...read(name).matchAll(new RegExp(`\\x60((?:${areas})\\.[a-z.-]+)\\x60`, 'g'))].map(
      (m) => m[1] ?? '',
    )
    expect(
      cited.filter(
        (id) => !ALL_CHECKS.has(id) && !/\.(md|json|img|digest|digests|suites|padding|chunks|final)$|Seconds$/.test(id),
      ),
    ).toEqual([])
  })

  it('every check cites a document and a section', () => {
    for (const check of ALL_CHECKS.values()) {
      expect(check.spec).toMatch(/^\S+ .{2,}/)
      expect(check.gain.length).toBeGreaterThan(20)
    }
  })

  it('PROTOCOL.md has every requirement that a check cites', () => {
    const protocol = read('PROTOCOL.md')
    const cited = [...ALL_CHECKS.values()].flatMap((check) => check.spec.match(/P-\d+\.\d+/g) ?? [])
    expect(cited.filter((requirement) => !protocol.includes(`**${requirement}**`))).toEqual([])
  })

  it('a test holds every requirement of PROTOCOL.md, and says so', () => {
    const tests = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.test.ts'))
      .map((name) => read(join('test', name)))
      .join('')
    const cited = new Set(tests.match(/P-\d+\.\d+/g))
    const stated = [...read('PROTOCOL.md').matchAll(/\*\*(P-\d+\.\d+)\*\*/g)].map((match) => match[1] ?? '')
    expect(stated.length).toBeGreaterThan(40)
    expect(stated.filter((requirement) => !cited.has(requirement))).toEqual([])
  })
})
