/**
 * What `subrosa doctor` finds out about a machine as a guest: what makes its evidence, what its kernel offers, and its GPUs. It
 * reads files; the GPU driver is asked by the worker's own code, and only where asking does no harm. Node only.
 */
import type { Finding, Machine } from './doctor.js'

/** What the worker's code says of the GPU driver; typed here so that neither side imports the other. */
export interface GpuFacts {
  readonly driver: string
  readonly count: number
  readonly mode: {
    readonly environment: string
    readonly confidential: boolean
    readonly devTools: boolean
    readonly multiGpu: string
  }
  readonly ready: boolean
  readonly persistent: boolean
}

export type GpuAnswer = GpuFacts | 'unasked' | 'unavailable' | { readonly failure: string }

const TSM = '/sys/kernel/config/tsm/report'
const AZURE_TAG = '7783-7084-3265-9085-8269-3286-77'

export function examineGuest(machine: Machine): readonly Finding[] {
  return [confidentialGuest(machine), ...inGuest(machine)]
}

function confidentialGuest({ exists, read, release: kernel }: Machine): Finding {
  const base = { about: 'guest', name: 'confidential guest' } as const
  const device = ['/dev/sev-guest', '/dev/tdx_guest'].find((path) => exists(path))
  if (device !== undefined && exists(TSM)) {
    return { ...base, state: 'yes', detail: `${device}, reports through configfs-tsm (kernel ${kernel})` }
  }
  const load = 'load the module tsm and mount configfs on /sys/kernel/config; it takes Linux 6.7 or newer'
  if (device === '/dev/sev-guest') {
    return {
      ...base,
      state: 'yes',
      detail: `${device} by ioctl, without configfs-tsm (kernel ${kernel})`,
      advice: `better: ${load}`,
    }
  }
  if (device !== undefined) {
    return { ...base, state: 'no', detail: `${device}, but no configfs-tsm (kernel ${kernel})`, advice: load }
  }
  if (read('/sys/class/dmi/id/chassis_asset_tag')?.trim() === AZURE_TAG && exists('/dev/tpmrm0')) {
    return {
      ...base,
      state: 'unknown',
      detail:
        'an Azure machine: if it is a confidential one, its evidence comes from the vTPM and names Microsoft’s paravisor',
      advice: 'no verifier takes that for identified software: run the image in a VM whose launch you measure yourself',
    }
  }
  const flags = read('/proc/cpuinfo') ?? ''
  if (/^flags\s*:.*\b(sev_snp|tdx_guest)\b/m.test(flags) && /^flags\s*:.*\bhypervisor\b/m.test(flags)) {
    return {
      ...base,
      state: 'no',
      detail: `the CPU says this is a confidential guest, and no driver makes reports (kernel ${kernel})`,
      advice: 'load the module sev-guest or tdx-guest',
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

/** Only of interest where there is a guest. */
function inGuest({ exists, read }: Machine): readonly Finding[] {
  const tdx = exists('/dev/tdx_guest')
  if (!tdx && !exists('/dev/sev-guest')) return []
  const base = { about: 'guest' } as const
  const lockdown = /\[(\w+)\]/.exec(read('/sys/kernel/security/lockdown') ?? '')?.[1]
  const findings: Finding[] = [
    lockdown === 'confidentiality'
      ? { ...base, name: 'kernel lockdown', state: 'yes', detail: lockdown }
      : {
          ...base,
          name: 'kernel lockdown',
          state: lockdown === undefined ? 'unknown' : 'no',
          detail: lockdown ?? 'securityfs is not mounted',
          advice: 'the image boots with lockdown=confidentiality; elsewhere root can read the worker’s memory',
        },
    exists('/dev/vsock')
      ? { ...base, name: 'relay for endorsements', state: 'yes', detail: '/dev/vsock, to a relay on the host' }
      : {
          ...base,
          name: 'relay for endorsements',
          state: 'unknown',
          detail: 'no /dev/vsock; a relay can still be reached by TCP or a Unix socket',
          advice: 'on the host: subrosa endorsements --listen …; here: subrosa serve --endorsements-from …',
        },
  ]
  if (!tdx) return findings
  const log = exists('/sys/firmware/acpi/tables/data/CCEL')
  const registers = exists('/sys/devices/virtual/misc/tdx_guest/measurements')
  return [
    ...findings,
    {
      ...base,
      name: 'TDX event log',
      state: log ? 'yes' : 'no',
      detail: log ? 'CCEL, stapled to evidence' : 'no CCEL table: RTMRs stand by their values alone',
    },
    {
      ...base,
      name: 'TDX runtime registers',
      state: registers ? 'yes' : 'no',
      detail: registers
        ? 'RTMR3 can be extended (serve --extend-rtmr3)'
        : 'the kernel offers none: it takes Linux 6.16',
    },
  ]
}

/** Where asking the driver does no harm: a confidential GPU starts once, and ends with the first program that used it. */
export function mayAskGpu({ exists }: Machine): boolean {
  return exists('/run/nvidia-persistenced/socket') || exists('/var/run/nvidia-persistenced/socket')
}

export function examineGpu({ read }: Machine, answer: GpuAnswer): readonly Finding[] {
  const base = { about: 'gpu' } as const
  const version = read('/proc/driver/nvidia/version')?.split('\n')[0]
  if (version === undefined) {
    return [{ ...base, name: 'NVIDIA driver', state: 'no', detail: 'no driver loaded: CPU inference only' }]
  }
  const open = /open/i.test(version)
  const driver: Finding = {
    ...base,
    name: 'NVIDIA driver',
    state: open ? 'yes' : 'no',
    detail: version,
    ...(open ? {} : { advice: 'confidential mode takes the open kernel modules' }),
  }
  return [driver, confidentialGpu(answer)]
}

function confidentialGpu(answer: GpuAnswer): Finding {
  const base = { about: 'gpu', name: 'confidential GPU' } as const
  if (answer === 'unasked') {
    return {
      ...base,
      state: 'unknown',
      detail: 'not asked: without nvidia-persistenced the question would use up the GPU’s only start',
      advice: 'start nvidia-persistenced before anything else that uses the GPU',
    }
  }
  if (answer === 'unavailable') {
    return { ...base, state: 'unknown', detail: 'not asked: NVML is read by the enclave workspace, which is not here' }
  }
  if ('failure' in answer) return { ...base, state: 'no', detail: answer.failure }
  const { driver, count, mode, ready, persistent } = answer
  const said = `${count} GPU${count === 1 ? '' : 's'}, driver ${driver}, environment ${mode.environment}, ${ready ? 'ready' : 'not ready'}`
  if (mode.devTools) {
    return { ...base, state: 'no', detail: `${said}; developer tools are on`, advice: 'set CC mode on, not devtools' }
  }
  if (!mode.confidential && mode.multiGpu !== 'protected-pcie') {
    const advice = 'on the host, with the GPU unbound: set CC mode on, then reset the GPU'
    return { ...base, state: 'no', detail: `${said}; confidential mode is off`, advice }
  }
  if (mode.environment !== 'production') {
    return { ...base, state: 'no', detail: said, advice: 'the environment must be production' }
  }
  return {
    ...base,
    state: 'yes',
    detail: said,
    ...(persistent ? {} : { advice: 'set persistence: nvidia-persistenced --uvm-persistence-mode' }),
  }
}
