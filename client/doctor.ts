/**
 * `subrosa doctor`: what the machine it runs on can do, as a host of confidential VMs, as a guest, and for building the image;
 * what is missing; what to do about it. It reads files of the kernel and asks nobody. Node only.
 */
import { existsSync, readFileSync } from 'node:fs'
import { release } from 'node:os'
import { delimiter, join } from 'node:path'
import type { CommandStreams } from './cli-run.js'

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
export async function runDoctor({ json }: { readonly json?: boolean }, { stdout }: CommandStreams): Promise<number> {
  const findings = examine(thisMachine())
  stdout.write(
    json === true ? `${JSON.stringify({ schema: 'subrosa-doctor/1', findings }, null, 2)}\n` : text(findings),
  )
  const able = findings.some(({ about, state }) => (about === 'guest' || about === 'host') && state === 'yes')
  return able ? 0 : 4
}

export function examine(machine: Machine): readonly Finding[] {
  return [guest(machine), ...hosts(machine), gpu(machine), ...building(machine)]
}

function guest({ exists, release: kernel }: Machine): Finding {
  const device = ['/dev/sev-guest', '/dev/tdx_guest'].find((path) => exists(path))
  const reports = exists('/sys/kernel/config/tsm/report')
  const base = { about: 'guest', name: 'confidential guest' } as const
  if (device !== undefined && reports)
    return { ...base, state: 'yes', detail: `${device}, reports through configfs-tsm` }
  if (device !== undefined) {
    return {
      ...base,
      state: 'no',
      detail: `${device}, but no configfs-tsm (kernel ${kernel})`,
      advice: 'load the module tsm and mount configfs on /sys/kernel/config; it takes Linux 6.7 or newer',
    }
  }
  return {
    ...base,
    state: 'no',
    detail: `neither /dev/sev-guest nor /dev/tdx_guest (kernel ${kernel})`,
    advice:
      'a worker here refuses to serve prompts: boot the image in an SEV-SNP or TDX VM, or try things out with --simulated',
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

function gpu({ read }: Machine): Finding {
  const base = { about: 'gpu', name: 'NVIDIA driver' } as const
  const version = read('/proc/driver/nvidia/version')?.split('\n')[0]
  if (version === undefined) {
    return {
      ...base,
      state: 'no',
      detail: 'no driver loaded',
      advice: 'this release’s image has none either: CPU inference only',
    }
  }
  return /open/i.test(version)
    ? { ...base, state: 'unknown', detail: `${version}; whether it runs in confidential mode is not read here` }
    : { ...base, state: 'no', detail: version, advice: 'confidential mode takes the open kernel modules' }
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
