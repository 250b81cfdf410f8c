/** `subrosa doctor` on machines of every kind, and on this one. */
import { describe, expect, it } from 'vitest'
import { examine, type Machine } from '../../client/doctor.js'
import { subrosa } from '../support/command.js'

const machine = (files: Readonly<Record<string, string>>, programs: readonly string[] = []): Machine => ({
  release: '6.12.0',
  read: (path) => files[path],
  exists: (path) => files[path] !== undefined,
  hasProgram: (name) => programs.includes(name),
})
const stateOf = (files: Readonly<Record<string, string>>, name: string) =>
  examine(machine(files)).find((finding) => finding.name === name)

describe('subrosa doctor', () => {
  it('knows a guest that can make reports from one that cannot', () => {
    const device = { '/dev/sev-guest': '' }
    expect(stateOf({ ...device, '/sys/kernel/config/tsm/report': '' }, 'confidential guest')?.state).toBe('yes')
    expect(stateOf(device, 'confidential guest')).toMatchObject({ state: 'no', advice: expect.stringMatching(/tsm/) })
    expect(stateOf({}, 'confidential guest')).toMatchObject({
      state: 'no',
      advice: expect.stringMatching(/--simulated/),
    })
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
