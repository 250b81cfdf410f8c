/** `subrosa doctor` on machines of every kind, and on this one. */
import { describe, expect, it } from 'vitest'
import { examine, type Machine } from '../../client/doctor.js'
import { type GpuAnswer, type GpuFacts, mayAskGpu } from '../../client/doctor-guest.js'
import { subrosa } from '../support/command.js'

const machine = (
  files: Readonly<Record<string, string>>,
  programs: readonly string[] = [],
  more: Partial<Machine> = {},
): Machine => ({
  release: '6.12.0',
  versionOf: () => undefined,
  root: true,
  read: (path) => files[path],
  exists: (path) => files[path] !== undefined,
  hasProgram: (name) => programs.includes(name),
  ...more,
})
const stateOf = (files: Readonly<Record<string, string>>, name: string) =>
  examine(machine(files)).find((finding) => finding.name === name)

describe('subrosa doctor', () => {
  it('knows a guest that can make reports from one that cannot', () => {
    const device = { '/dev/sev-guest': '' }
    expect(stateOf({ ...device, '/sys/kernel/config/tsm/report': '' }, 'confidential guest')?.state).toBe('yes')
    // The ioctl makes reports too; a TDX guest has no other way.
    expect(stateOf(device, 'confidential guest')).toMatchObject({ state: 'yes', advice: expect.stringMatching(/tsm/) })
    const tdx = { '/dev/tdx_guest': '' }
    expect(stateOf(tdx, 'confidential guest')).toMatchObject({ state: 'no', advice: expect.stringMatching(/tsm/) })
    expect(stateOf({ ...tdx, '/sys/kernel/config/tsm/report': '' }, 'confidential guest')?.state).toBe('yes')
    expect(stateOf({}, 'confidential guest')).toMatchObject({
      state: 'no',
      advice: expect.stringMatching(/--simulated/),
    })
  })

  it('tells a guest without its driver, and one under a paravisor, from no guest', () => {
    const flags = { '/proc/cpuinfo': 'flags\t\t: fpu hypervisor tdx_guest\n' }
    expect(stateOf(flags, 'confidential guest')).toMatchObject({
      state: 'no',
      advice: expect.stringMatching(/tdx-guest/),
    })
    const azure = { '/sys/class/dmi/id/chassis_asset_tag': '7783-7084-3265-9085-8269-3286-77\n', '/dev/tpmrm0': '' }
    expect(stateOf(azure, 'confidential guest')).toMatchObject({
      state: 'unknown',
      detail: expect.stringMatching(/paravisor/),
    })
  })

  it('knows what the kernel of a guest offers', () => {
    const tdx = { '/dev/tdx_guest': '' }
    const names = ['kernel lockdown', 'relay for endorsements', 'TDX event log', 'TDX runtime registers']
    const bare = names.map((name) => stateOf(tdx, name)?.state)
    expect(bare).toEqual(['unknown', 'unknown', 'no', 'no'])
    const full = {
      ...tdx,
      '/sys/kernel/security/lockdown': 'none integrity [confidentiality]\n',
      '/dev/vsock': '',
      '/sys/firmware/acpi/tables/data/CCEL': '',
      '/sys/devices/virtual/misc/tdx_guest/measurements': '',
    }
    expect(names.map((name) => stateOf(full, name)?.state)).toEqual(['yes', 'yes', 'yes', 'yes'])
    expect(stateOf({ ...full, '/sys/kernel/security/lockdown': '[none] integrity\n' }, 'kernel lockdown')?.state).toBe(
      'no',
    )
    // On a machine that is no guest they are nobody's business.
    expect(names.map((name) => stateOf({}, name))).toEqual(names.map(() => undefined))
  })

  it('says whether guests reach a relay by vsock', () => {
    expect(stateOf({ '/dev/kvm': '', '/dev/vhost-vsock': '' }, 'vsock to guests')?.state).toBe('yes')
    expect(stateOf({ '/dev/kvm': '' }, 'vsock to guests')?.state).toBe('no')
  })

  const DRIVER = {
    '/proc/driver/nvidia/version':
      'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.90.07  Release Build\n',
  }
  const facts: GpuFacts = {
    driver: '550.90.07',
    count: 2,
    mode: { environment: 'production', confidential: true, devTools: false, multiGpu: 'none' },
    ready: false,
    persistent: true,
  }
  const gpuOf = (answer: GpuAnswer) => {
    const findings = examine(machine(DRIVER), answer)
    return findings.find(({ name }) => name === 'confidential GPU')
  }

  it('tells what the GPU driver says, and what to do about it', () => {
    expect(stateOf(DRIVER, 'NVIDIA driver')?.state).toBe('yes')
    const closed = { '/proc/driver/nvidia/version': 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.90.07\n' }
    expect(stateOf(closed, 'NVIDIA driver')).toMatchObject({ state: 'no', advice: expect.stringMatching(/open/) })
    expect(stateOf({}, 'confidential GPU')).toBeUndefined()
    expect(gpuOf(facts)).toMatchObject({
      state: 'yes',
      detail: expect.stringMatching(/2 GPUs, driver 550.90.07.*not ready/),
    })
    expect(gpuOf({ ...facts, persistent: false })?.advice).toMatch(/nvidia-persistenced/)
    expect(gpuOf({ ...facts, mode: { ...facts.mode, confidential: false } })).toMatchObject({ state: 'no' })
    expect(gpuOf({ ...facts, mode: { ...facts.mode, devTools: true } })).toMatchObject({ state: 'no' })
    expect(gpuOf({ ...facts, mode: { ...facts.mode, environment: 'simulation' } })).toMatchObject({ state: 'no' })
    expect(gpuOf({ failure: 'driver and library are of different versions' })).toMatchObject({ state: 'no' })
    expect(gpuOf('unasked')).toMatchObject({ state: 'unknown', advice: expect.stringMatching(/nvidia-persistenced/) })
  })

  it('asks no GPU that the question could end', () => {
    expect(mayAskGpu(machine(DRIVER))).toBe(false)
    expect(mayAskGpu(machine({ ...DRIVER, '/run/nvidia-persistenced/socket': '' }))).toBe(true)
  })

  it.each([
    ['SEV-SNP host', 'sev_snp', '/sys/module/kvm_amd/parameters/sev_snp', 'kvm_amd.sev_snp=1'],
    ['TDX host', 'tdx_host_platform', '/sys/module/kvm_intel/parameters/tdx', 'kvm_intel.tdx=1'],
  ])('knows a %s, and what is missing on one', (name, flag, parameter, option) => {
    const cpu = { '/proc/cpuinfo': `flags\t\t: fpu ${flag} sse\n` }
    expect(stateOf({ ...cpu, '/dev/kvm': '', [parameter]: 'Y\n' }, name)?.state).toBe('yes')
    expect(stateOf({ ...cpu, [parameter]: 'N\n' }, name)).toMatchObject({
      state: 'no',
      advice: expect.stringContaining(option),
    })
    expect(stateOf({ '/proc/cpuinfo': 'flags\t: fpu\n' }, name)?.state).toBe('no')
  })

  it('says what to install for building the image', () => {
    expect(stateOf({}, 'building the image')).toMatchObject({ state: 'no', advice: expect.stringContaining('buildah') })
  })

  it('says that building takes root, to an ordinary user who has everything else', () => {
    const programs = ['buildah', 'unshare', 'dpkg-deb', 'tar']
    const files = { '/usr/lib/apt/apt-helper': '' }
    const of = (root: boolean, has = programs) =>
      examine(machine(files, has, { root })).find(({ name }) => name === 'building the image')
    expect(of(true)).toMatchObject({ state: 'yes' })
    expect(of(false)).toMatchObject({
      state: 'no',
      detail: expect.stringMatching(/root/),
      advice: expect.stringMatching(/sudo/),
    })
    expect(of(false, programs.slice(1))?.detail).toMatch(/missing besides: buildah$/)
  })

  it.each([
    ['QEMU emulator version 8.2.4', 'no', /too old/],
    ['QEMU emulator version 9.1.0 (Debian 1:9.1.0)', 'yes', /for SNP$/],
    ['QEMU emulator version 10.1.2', 'yes', /for SNP$/],
    ['QEMU emulator version 10.2.0', 'yes', /for SNP and TDX$/],
    ['QEMU emulator version 11.0.50', 'yes', /for SNP and TDX$/],
    ['something else', 'unknown', /no version/],
  ])('knows what %s can launch', (said, state, detail) => {
    const findings = examine(machine({}, [], { versionOf: () => said }))
    expect(findings.find(({ name }) => name === 'QEMU')).toMatchObject({ state, detail: expect.stringMatching(detail) })
  })

  it('misses QEMU only where guests run', () => {
    expect(stateOf({ '/dev/kvm': '' }, 'QEMU')?.state).toBe('no')
    expect(stateOf({}, 'QEMU')).toBeUndefined()
  })

  it('reports microcode and firmware, and whose word that is', () => {
    const files = {
      '/proc/cpuinfo': 'processor\t: 0\nmicrocode\t: 0xa101148\nflags\t\t: fpu\n',
      '/sys/class/dmi/id/bios_vendor': 'A Vendor\n',
      '/sys/class/dmi/id/bios_version': '1.2.3\n',
    }
    expect(stateOf(files, 'microcode')).toMatchObject({ state: 'yes', detail: '0xa101148' })
    expect(stateOf(files, 'firmware')).toMatchObject({ state: 'yes', detail: 'A Vendor 1.2.3' })
    const guest = { ...files, '/proc/cpuinfo': files['/proc/cpuinfo'].replace('fpu', 'fpu hypervisor') }
    expect(stateOf(guest, 'microcode')?.detail).toBe('0xa101148, as the hypervisor says')
    expect([stateOf({}, 'microcode')?.state, stateOf({}, 'firmware')?.state]).toEqual(['unknown', 'unknown'])
  })

  it('looks at this machine, for people and for programs', async () => {
    const plain = await subrosa('doctor')
    expect(plain.stdout).toMatch(/^(yes|no) +confidential guest: /)
    const { stdout } = await subrosa('doctor', '--json')
    expect(JSON.parse(stdout)).toMatchObject({ schema: 'subrosa-doctor/1' })
  })
})

describe('subrosa image', () => {
  it('lists its commands', async () => {
    const { stdout, status } = await subrosa('image', '--help')
    expect(status).toBe(0)
    for (const name of ['build', 'measure', 'boot']) expect(stdout).toContain(`  ${name} `)
  })
})
