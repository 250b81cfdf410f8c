/**
 * `subrosa doctor`: what the machine it runs on can do, as a host of confidential VMs, as a guest, and for building the image;
 * what is missing; what to do about it. It reads files of the kernel and asks nobody. Node only.
 */
import { existsSync, readFileSync } from 'node:fs'
import { release } from 'node:os'
import { delimiter, join } from 'node:path'
import { SubrosaError } from '../verifier/errors.js'
import type { CommandStreams } from './cli-run.js'
import { examineGpu, examineGuest, type GpuAnswer, type GpuFacts, mayAskGpu } from './doctor-guest.js'

/** What is looked at, so that a test can show any machine. */
export interface Machine {
  /** Kernel release. */
  readonly release: string
  /** Contents of a file; undefined when it cannot be read. */
  read(path: string): string | undefined
  exists(path: string): boolean
  hasProgram(name: string): boolean
}

export interface Finding {
  readonly about: 'guest' | 'host' | 'gpu' | 'image'
  readonly name: string
  readonly state: 'yes' | 'no' | 'unknown'
  readonly detail: string
  /** What to do, where something is missing. */
  readonly advice?: string
}

const BUILD_PROGRAMS: readonly (readonly [program: string, debianPackage: string])[] = [
  ['buildah', 'buildah'],
  ['unshare', 'util-linux'],
  ['dpkg-deb', 'dpkg'],
  ['tar', 'tar'],
]

/** Prints the findings; 0 when this machine is a confidential guest or can host one, 4 otherwise. */
export async function runDoctor(
  { json }: { readonly json?: boolean },
  { stdout }: CommandStreams,
  readGpuFacts: () => Promise<GpuFacts | undefined>,
): Promise<number> {
  const machine = thisMachine()
  const findings = examine(machine, await askGpu(machine, readGpuFacts))
  stdout.write(
    json === true ? `${JSON.stringify({ schema: 'subrosa-doctor/1', findings }, null, 2)}\n` : text(findings),
  )
  const able = findings.some(({ about, state }) => (about === 'guest' || about === 'host') && state === 'yes')
  return able ? 0 : 4
}

export function examine(machine: Machine, gpu: GpuAnswer = 'unavailable'): readonly Finding[] {
  return [
    ...examineGuest(machine),
    ...hosts(machine),
    ...relaying(machine),
    ...examineGpu(machine, gpu),
    ...building(machine),
  ]
}

async function askGpu(machine: Machine, readGpuFacts: () => Promise<GpuFacts | undefined>): Promise<GpuAnswer> {
  if (!machine.exists('/proc/driver/nvidia/version')) return 'unavailable'
  if (!mayAskGpu(machine)) return 'unasked'
  try {
    return (await readGpuFacts()) ?? 'unavailable'
  } catch (error) {
    if (!(error instanceof SubrosaError)) throw error
    return error.code === 'serve.not-installed' ? 'unavailable' : { failure: error.message }
  }
}

function hosts({ read, exists }: Machine): readonly Finding[] {
  const flags = new Set(/^flags\s*:\s*(.*)$/m.exec(read('/proc/cpuinfo') ?? '')?.[1]?.split(/\s+/))
  const kinds = [
    {
      name: 'SEV-SNP host',
      flag: 'sev_snp',
      parameter: '/sys/module/kvm_amd/parameters/sev_snp',
      option: 'kvm_amd.sev_snp=1',
    },
    {
      name: 'TDX host',
      flag: 'tdx_host_platform',
      parameter: '/sys/module/kvm_intel/parameters/tdx',
      option: 'kvm_intel.tdx=1',
    },
  ]
  return kinds.map(({ name, flag, parameter, option }): Finding => {
    const base = { about: 'host', name } as const
    const enabled = /^[Y1]/.test(read(parameter) ?? '')
    if (enabled && exists('/dev/kvm')) return { ...base, state: 'yes', detail: `KVM says so in ${parameter}` }
    if (flags.has(flag)) {
      const advice = `enable it in the firmware setup and boot the host kernel with ${option}`
      return { ...base, state: 'no', detail: `the CPU has it, KVM does not use it`, advice }
    }
    return { ...base, state: 'no', detail: `no ${flag} among the CPU’s flags` }
  })
}

/** How guests of this host reach a relay. Only of interest where guests run. */
function relaying({ exists }: Machine): readonly Finding[] {
  if (!exists('/dev/kvm')) return []
  const base = { about: 'host', name: 'vsock to guests' } as const
  if (exists('/dev/vhost-vsock')) return [{ ...base, state: 'yes', detail: '/dev/vhost-vsock' }]
  return [
    {
      ...base,
      state: 'no',
      detail: 'no /dev/vhost-vsock',
      advice: 'load the module vhost_vsock, or give guests a relay by TCP',
    },
  ]
}

function building({ hasProgram, exists }: Machine): readonly Finding[] {
  const missing = BUILD_PROGRAMS.filter(([program]) => !hasProgram(program)).map(([, debianPackage]) => debianPackage)
  if (!exists('/usr/lib/apt/apt-helper')) missing.push('apt')
  const base = { about: 'image', name: 'building the image' } as const
  if (missing.length === 0) return [{ ...base, state: 'yes', detail: 'everything it takes is installed' }]
  return [
    {
      ...base,
      state: 'no',
      detail: `missing: ${missing.join(', ')}`,
      advice: `on Debian: apt-get install --no-install-recommends ${missing.join(' ')}`,
    },
  ]
}

function text(findings: readonly Finding[]): string {
  return findings
    .map(({ name, state, detail, advice }) =>
      [`${state.padEnd(9)}${name}: ${detail}`, ...(advice === undefined ? [] : [`         → ${advice}`]), ''].join(
        '\n',
      ),
    )
    .join('')
}

function thisMachine(): Machine {
  const folders = (process.env['PATH'] ?? '').split(delimiter).concat('/usr/sbin', '/sbin')
  return {
    release: release(),
    read(path) {
      try {
        return readFileSync(path, 'utf8')
      } catch {
        return undefined
      }
    },
    exists: existsSync,
    hasProgram: (name) => folders.some((folder) => existsSync(join(folder, name))),
  }
}
