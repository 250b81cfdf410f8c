/** Completions and the manual page say what the commands are; every help fits a screen. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { manPage } from '../../scripts/man-page.js'
import { commandFacts } from '../../verifier/cli-tree.js'
import { wholeProgram } from '../../verifier/cli-verify.js'
import { verifyAttestation } from '../support/command.js'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
const streams = () => ({ stdout: new PassThrough(), stderr: new PassThrough() })
const facts = async () => commandFacts(await wholeProgram(streams()))

describe('the manual page', () => {
  it('is what the commands are now', async () => {
    expect(readFileSync(join(root, 'man', 'verify-attestation.1'), 'utf8')).toBe(await manPage())
  })

  it('has every command and option, in ASCII', async () => {
    const page = (await manPage()).replaceAll('\\-', '-')
    expect(page).toMatch(/^[\n\x20-\x7e]*$/)
    for (const { path, options } of await facts()) {
      expect(page).toContain(path.join(' '))
      for (const { name } of options) expect(page).toContain(`.B ${name}`)
    }
  })
})

describe('every help', () => {
  it('fits 80 columns', async () => {
    for (const { path } of await facts()) {
      const { status, stdout } = await verifyAttestation(...path, '--help')
      expect([path, status]).toEqual([path, 0])
      expect([path, Math.max(...stdout.split('\n').map((line) => line.length))].at(1)).toBeLessThanOrEqual(80)
    }
  })
})

const hasBash = spawnSync('bash', ['--version']).status === 0
describe('completions', () => {
  async function complete(...line: string[]): Promise<readonly string[]> {
    const { stdout: script } = await verifyAttestation('completion', 'bash')
    const words = line.map((word) => `'${word}'`).join(' ')
    const ask = `COMP_WORDS=(verify-attestation ${words}); COMP_CWORD=${line.length}; _verify_attestation; printf '%s\\n' "\${COMPREPLY[@]}"`
    const { stdout, status } = spawnSync('bash', ['-c', `${script}\n${ask}`], { encoding: 'utf8', cwd: root })
    expect(status).toBe(0)
    return stdout.split('\n').filter((word) => word !== '')
  }

  it.skipIf(!hasBash)('of bash name commands, options, choices and files (skipped without bash)', async () => {
    expect(await complete('po')).toEqual(['policy'])
    expect(await complete('policy', '')).toContain('init')
    expect(await complete('policy', 'init', '--rel')).toEqual(['--release-key'])
    expect(await complete('gpu', 'nras', '--jw')).toEqual(['--jwks'])
    expect(await complete('x', '--format', '')).toEqual(['text', 'json', 'ear', 'cmw'])
    expect(await complete('--policy', 'READ')).toEqual(['README.md'])
    expect(await complete('READ')).toEqual(['README.md'])
  })

  it('exist for three shells, and no other', async () => {
    for (const shell of ['bash', 'zsh', 'fish']) {
      const { status, stdout } = await verifyAttestation('completion', shell)
      expect([shell, status]).toEqual([shell, 0])
      for (const { options } of await facts()) for (const { name } of options) expect(stdout).toContain(name.slice(2))
    }
    expect((await verifyAttestation('completion', 'tcsh')).status).toBe(2)
  })
})

it('--explain knows every check', async () => {
  const { ALL_CHECKS } = await import('../../verifier/registry.js')
  for (const id of ALL_CHECKS.keys()) {
    const { status, stdout } = await verifyAttestation('--explain', id)
    expect([id, status, stdout.startsWith(`${id}\n`)]).toEqual([id, 0, true])
  }
})
