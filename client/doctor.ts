/**
 * `subrosa doctor`: what the machine it runs on can do, as a host of confidential VMs, as a guest, and for building the image;
 * what is missing; what to do about it. It reads files of the kernel, runs QEMU for its version, and asks nobody. Node only.
 */
import { execFileSync } from 'node:child_process'
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
  /** What a program says to `--version`; undefined when it is not there or does not say. */
  versionOf(program: string): string | undefined
  /** Whether this process runs as root. */
  readonly root: boolean
}

export interface Finding {
  readonly about: 'guest' | 'host' | 'machine' | 'gpu' | 'image'
  readonly name: string
  readonly state: 'yes' | 'no' | 'unknown'
  readonly detail: string
  /** What to do, where something is missing. */
  readonly advice?: string
}

/** Any of these makes a machine one for confidential inference; everything else is a detail of it. */
const KINDS: ReadonlySet<string> = new Set(['confidential guest', 'SEV-SNP host', 'TDX host'])

const QEMU = 'qemu-system-x86_64'
/** QEMU from which on it launches SNP guests, and TDs whose measurement is the one computed here: docs/providers.md. */
const OLDEST_QEMU = { snp: [9, 1], tdx: [10, 2] } as const
const VERSION_TIMEOUT_MS = 5000

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
  const able = findings.some(({ name, state }) => KINDS.has(name) && state === 'yes')
  return able ? 0 : 4
}

export function examine(machine: Machine, gpu: GpuAnswer = 'unavailable'): readonly Finding[] {
  return [
    ...examineGuest(machine),
    ...hosts(machine),
    ...launching(machine),
    ...relaying(machine),
    ...versions(machine),
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

/** What starts guests. Only of interest where guests run, or where it is there. */
function launching({ exists, versionOf }: Machine): readonly Finding[] {
  const base = { about: 'host', name: 'QEMU' } as const
  const said = versionOf(QEMU)
  if (said === undefined) {
    if (!exists('/dev/kvm')) return []
    const advice = 'install QEMU 9.1 or newer for SNP, 10.2 or newer for TDX'
    return [{ ...base, state: 'no', detail: `no ${QEMU} that says its version`, advice }]
  }
  const [version = '', major = '', minor = ''] = /(\d+)\.(\d+)[\d.]*/.exec(said) ?? []
  if (version === '') return [{ ...base, state: 'unknown', detail: `${QEMU} says no version` }]
  const reaches = ([a, b]: readonly [number, number]): boolean =>
    Number(major) > a || (Number(major) === a && Number(minor) >= b)
  if (reaches(OLDEST_QEMU.tdx)) return [{ ...base, state: 'yes', detail: `${version}, for SNP and TDX` }]
  if (reaches(OLDEST_QEMU.snp)) {
    return [{ ...base, state: 'yes', detail: `${version}, for SNP`, advice: 'for TDX it takes 10.2 or newer' }]
  }
  const advice = 'it takes 9.1 or newer for SNP, 10.2 or newer for TDX'
  return [{ ...base, state: 'no', detail: `${version}, too old for either`, advice }]
}

/** Versions that evidence is judged by, as far as the kernel tells them; a hypervisor may tell a guest anything. */
function versions({ read }: Machine): readonly Finding[] {
  const cpu = read('/proc/cpuinfo') ?? ''
  const hosted = /^flags\s*:.*\bhypervisor\b/m.test(cpu) ? ', as the hypervisor says' : ''
  const microcode = /^microcode\s*:\s*(\S+)/m.exec(cpu)?.[1]
  const [vendor, version, date] = ['bios_vendor', 'bios_version', 'bios_date'].map((name) =>
    read(`/sys/class/dmi/id/${name}`)?.trim(),
  )
  const firmware = [vendor, version, date].filter((word) => word !== undefined && word !== '').join(' ')
  const base = { about: 'machine' } as const
  return [
    microcode === undefined
      ? { ...base, name: 'microcode', state: 'unknown', detail: 'the kernel does not say' }
      : { ...base, name: 'microcode', state: 'yes', detail: `${microcode}${hosted}` },
    firmware === ''
      ? { ...base, name: 'firmware', state: 'unknown', detail: 'the kernel does not say' }
      : { ...base, name: 'firmware', state: 'yes', detail: `${firmware}${hosted}` },
  ]
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

function building({ hasProgram, exists, root }: Machine): readonly Finding[] {
  const missing = BUILD_PROGRAMS.filter(([program]) => !hasProgram(program)).map(([, debianPackage]) => debianPackage)
  if (!exists('/usr/lib/apt/apt-helper')) missing.push('apt')
  const base = { about: 'image', name: 'building the image' } as const
  if (!root) {
    const install = missing.length === 0 ? '' : `; missing besides: ${missing.join(', ')}`
    const advice = 'run npm run image with sudo: buildah’s chroot and an empty network take root'
    return [{ ...base, state: 'no', detail: `it takes root, and this is an ordinary user${install}`, advice }]
  }
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
    versionOf(program) {
      try {
        return execFileSync(program, ['--version'], {
          encoding: 'utf8',
          timeout: VERSION_TIMEOUT_MS,
          stdio: ['ignore', 'pipe', 'ignore'],
        })
      } catch {
        return undefined
      }
    },
    root: process.getuid?.() === 0,
  }
}
