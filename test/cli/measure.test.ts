/** `verify-attestation measure`: digests from files, and what it refuses to compute. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { POLICY_SCHEMA, resolvePolicy } from '../../verifier/policy.js'
import { utf8 } from '../../verifier/protocol/bytes.js'
import { buildFirmware, buildPe } from '../measure/firmware-files.js'
import { verifyAttestation } from '../support/command.js'

let folder: string
const file = (name: string) => join(folder, name)
const SEV = [
  [0x800000, 0x1000, 1],
  [0x810000, 0x1000, 0x10],
] as const

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-measure-'))
  const tdx = [[0, 8192, 0xffffe000, 8192, 0, 1]] as const
  await writeFile(file('firmware.fd'), buildFirmware({ sev: SEV, tdx, hashTableGpa: 0x810c00 }))
  await writeFile(file('no-hashes.fd'), buildFirmware({ sev: [SEV[0]] }))
  await writeFile(file('kernel'), buildPe(utf8('a kernel')))
  await writeFile(file('initrd'), 'an initrd')
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const boot = (...more: string[]) => ['--firmware', file('firmware.fd'), '--kernel', file('kernel'), ...more]
const snp = (...more: string[]) => verifyAttestation('measure', 'snp', ...boot('--unlisted-firmware', ...more))
const digestOf = async (...more: string[]) =>
  (JSON.parse((await snp('--format', 'json', ...more)).stdout) as { launches: { values: { digest: string } }[] })
    .launches[0]?.values.digest

describe('snp', () => {
  it('prints a digest for each number of vCPUs', async () => {
    const { status, stdout } = await snp('--vcpus', '1', '4', '--append', 'quiet')
    expect(status).toBe(0)
    expect(stdout.match(/^ {2}digest +[0-9a-f]{96}$/gm)).toHaveLength(2)
    expect(stdout).toContain('4 x EPYC-Genoa, features 0x1')
    expect(stdout).toMatch(/not the host.s ACPI tables/)
  })

  it('covers kernel, initrd, command line, vCPUs, model, features and VMM', async () => {
    const all = await Promise.all([
      digestOf(),
      digestOf('--append', 'quiet'),
      digestOf('--initrd', file('initrd')),
      digestOf('--kernel', file('initrd')),
      digestOf('--vcpus', '2'),
      digestOf('--vcpu-type', 'EPYC-Milan-v2'),
      digestOf('--guest-features', '0x21'),
      digestOf('--vmm', 'gce'),
    ])
    expect(new Set(all).size).toBe(all.length)
    expect(await digestOf()).toBe(all[0])
  })

  it('writes what a policy takes', async () => {
    const { stdout } = await snp('--vcpus', '1', '2', '--format', 'policy')
    const policy = resolvePolicy({ schema: POLICY_SCHEMA, ...(parse(stdout) as object) })
    expect(policy.measurements).toMatchObject([
      { name: '1 x EPYC-Genoa, features 0x1' },
      { name: '2 x EPYC-Genoa, features 0x1' },
    ])
  })
})

describe('tdx', () => {
  it('prints MRTD, RTMR1, RTMR2 and says what it does not know', async () => {
    const { status, stdout } = await verifyAttestation('measure', 'tdx', ...boot('--append', 'quiet'))
    expect(status).toBe(0)
    for (const name of ['mrTd', 'rtmr1', 'rtmr2', 'rtmr3'])
      expect(stdout).toMatch(new RegExp(`^ {2}${name} +[0-9a-f]{96}$`, 'm'))
    expect(stdout).toContain('RTMR0 depends on the host')
  })

  it('writes what a policy takes', async () => {
    const { stdout } = await verifyAttestation('measure', 'tdx', ...boot('--format', 'policy', '--passes', 'two-pass'))
    const policy = resolvePolicy({ schema: POLICY_SCHEMA, ...(parse(stdout) as object) })
    expect(policy.measurements).toMatchObject([{ name: 'direct kernel boot, two-pass' }])
  })
})

describe('refused in one sentence, with nothing on standard output', () => {
  it.each<[string, () => string[], RegExp]>([
    [
      'firmware nobody knows to enforce hashes',
      () => ['snp', ...boot()],
      /not known to enforce kernel hashes.*--unlisted-firmware/,
    ],
    [
      'firmware without a place for them',
      () => ['snp', '--firmware', file('no-hashes.fd'), '--kernel', file('kernel'), '--unlisted-firmware'],
      /no place for kernel hashes/,
    ],
    ['firmware that is none', () => ['snp', '--firmware', file('initrd')], /expected whole pages/],
    ['a missing file', () => ['snp', '--firmware', file('gone')], /there is no such file/],
    [
      'an initrd without a kernel',
      () => ['snp', '--firmware', file('firmware.fd'), '--initrd', file('initrd')],
      /go with --kernel/,
    ],
    [
      'a policy of firmware alone',
      () => ['snp', '--firmware', file('firmware.fd'), '--format', 'policy'],
      /no reference value/,
    ],
    ['no vCPU', () => ['snp', ...boot('--vcpus', '0')], /expected 1 to 512/],
    [
      'an unknown vCPU model',
      () => ['snp', ...boot('--unlisted-firmware', '--vcpu-type', 'Opteron')],
      /expected one of EPYC/,
    ],
    ['features that are no number', () => ['snp', ...boot('--guest-features', 'all')], /hexadecimal/],
    [
      'a kernel that is no PE file',
      () => ['tdx', '--firmware', file('firmware.fd'), '--kernel', file('initrd')],
      /not a PE image/,
    ],
    ['a kernel without a header to patch', () => ['tdx', ...boot('--patched-memory', '1024')], /no Linux setup header/],
    ['firmware without TDX metadata', () => ['tdx', '--firmware', file('no-hashes.fd')], /no TDX metadata/],
  ])('%s', async (_name, argv, message) => {
    const { status, stdout, stderr } = await verifyAttestation('measure', ...argv())
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toMatch(message)
    expect(stderr.trim().split('\n')).toHaveLength(1)
  })
})
