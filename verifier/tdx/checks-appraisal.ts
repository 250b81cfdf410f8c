/** Checks that decide whether an authentic quote is acceptable. All of them follow its signature: before it, nothing counts. */
import type { CheckDefinition } from '../checks.js'

const ABI = 'Intel TDX Module 1.5 ABI 348551'
const SIGNED: readonly string[] = ['tdx.quote.signature']
const CERTIFIED: readonly string[] = ['tdx.quote.signature', 'tdx.pck.chain', 'tdx.pck.extension']

/** The check of a policy member that pins one value. */
export interface PinCheck {
  readonly id: string
  /** As the specification calls it. */
  readonly field: string
  readonly gain: string
}

/** Members of the policy that pin one field of the TD report. */
export type ReportPin =
  | 'tdAttributes'
  | 'xfam'
  | 'mrSeam'
  | 'mrSignerSeam'
  | 'mrTd'
  | 'mrConfigId'
  | 'mrOwner'
  | 'mrOwnerConfig'

export const REPORT_PINS: Readonly<Record<ReportPin, PinCheck>> = {
  tdAttributes: {
    id: 'tdx.policy.td-attributes',
    field: 'TDATTRIBUTES',
    gain: 'A TD with other features than you asked for could answer.',
  },
  xfam: {
    id: 'tdx.policy.xfam-value',
    field: 'XFAM',
    gain: 'A TD with other processor state than you asked for could answer.',
  },
  mrSeam: { id: 'tdx.policy.mr-seam', field: 'MRSEAM', gain: 'Another build of the TDX module could run the TD.' },
  mrSignerSeam: {
    id: 'tdx.policy.mr-signer-seam',
    field: 'MRSIGNERSEAM',
    gain: 'Another signer’s TDX module could run the TD.',
  },
  mrTd: { id: 'tdx.policy.mr-td', field: 'MRTD', gain: 'The TD could have been built from other firmware.' },
  mrConfigId: {
    id: 'tdx.policy.mr-config-id',
    field: 'MRCONFIGID',
    gain: 'The TD could have been launched with another configuration.',
  },
  mrOwner: { id: 'tdx.policy.mr-owner', field: 'MROWNER', gain: 'Another owner’s TD could answer.' },
  mrOwnerConfig: {
    id: 'tdx.policy.mr-owner-config',
    field: 'MROWNERCONFIG',
    gain: 'Another owner’s configuration could be in force.',
  },
}

/** Members of the policy that pin one member of the PCK certificate's SGX extension. */
export type PckPin = 'fmspcs' | 'ppids' | 'platformInstanceIds'

export const PCK_PINS: Readonly<Record<PckPin, PinCheck>> = {
  fmspcs: { id: 'tdx.policy.fmspc', field: 'FMSPC', gain: 'Another kind of processor could answer.' },
  ppids: { id: 'tdx.policy.ppid', field: 'PPID', gain: 'Another machine could answer.' },
  platformInstanceIds: {
    id: 'tdx.policy.platform-instance',
    field: 'Platform Instance ID',
    gain: 'Another platform could answer.',
  },
}

const RTMR_USE = [
  'firmware configuration',
  'boot loader and kernel',
  'operating system and command line',
  'application',
]

export const APPRAISAL_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'tdx.policy.debug',
    title: 'DEBUG is off, where your policy forbids it',
    spec: `${ABI}, ATTRIBUTES bit 0`,
    gain: 'The host can read and write all of the TD’s memory and registers.',
    needs: SIGNED,
  },
  {
    id: 'tdx.policy.tud',
    title: 'No other bit of the TUD group is set',
    spec: `${ABI}, ATTRIBUTES bits 7:1`,
    gain: 'Profiling and debugging features of newer modules open the TD as DEBUG does.',
    needs: SIGNED,
  },
  {
    id: 'tdx.policy.attributes-reserved',
    title: 'No reserved TDATTRIBUTES bit is set but those your policy names',
    spec: `${ABI}, ATTRIBUTES`,
    gain: 'A feature nobody has judged could be on.',
    needs: SIGNED,
  },
  {
    id: 'tdx.policy.migratable',
    title: 'MIGRATABLE is off, where your policy forbids it',
    spec: `${ABI}, ATTRIBUTES bit 29`,
    gain: 'A migration TD can move the guest, keys included, to another machine.',
    needs: SIGNED,
  },
  {
    id: 'tdx.policy.sept-ve-disable',
    title: 'SEPT_VE_DISABLE is on, where your policy requires it',
    spec: `${ABI}, ATTRIBUTES bit 28`,
    gain: 'The host can inject exceptions at any instruction by taking pages away.',
    advice:
      'Some older clouds run without it; accept it with septVeDisable: optional only if your guest’s kernel is safe so.',
    needs: SIGNED,
  },
  {
    id: 'tdx.policy.xfam',
    title: 'XFAM has its fixed bits',
    spec: `${ABI}, XFAM`,
    gain: 'A combination the module must refuse shows that the report is not the module’s.',
    needs: SIGNED,
  },
  {
    id: 'tdx.policy.service-td',
    title: 'No service TD is bound to the guest but those your policy names',
    spec: `${ABI}, TDREPORT_STRUCT, SERVTD_HASH`,
    gain: 'A migration TD or other service TD can act on the guest.',
    needs: SIGNED,
  },
  {
    id: 'tdx.policy.tee-tcb-svn',
    title: 'TEE_TCB_SVN is at least what your policy names, in every component',
    spec: `${ABI}, TEE_TCB_SVN`,
    gain: 'An older module or microcode than you accept could run the TD.',
    needs: SIGNED,
  },
  ...Object.values(PCK_PINS).map((pin) => pinned(pin, 'Intel SGX PCK Certificate and CRL Profile 1.5 §4.2', CERTIFIED)),
  ...Object.values(REPORT_PINS).map((pin) => pinned(pin, `${ABI}, TDREPORT_STRUCT`, SIGNED)),
  ...RTMR_USE.map((use, index) => {
    const gain = `Another ${use} could have been measured after launch.`
    return pinned(
      { id: `tdx.policy.rtmr${index}`, field: `RTMR${index}`, gain },
      `${ABI}, TDREPORT_STRUCT, RTMR`,
      SIGNED,
    )
  }),
  {
    id: 'tdx.report-data',
    title: 'REPORTDATA is the expected value in all 64 bytes',
    spec: `${ABI}, REPORTMACSTRUCT, REPORTDATA`,
    gain: 'A recorded quote, or one made for somebody else’s key, could be replayed.',
    needs: SIGNED,
  },
  {
    id: 'tdx.event-log.parse',
    title: 'The event log is a well-formed confidential-computing log',
    spec: 'TCG PC Client Platform Firmware Profile §10; Intel GHCI 348552, CCEL',
    gain: 'A log read two ways could explain two different boots.',
    needs: ['tdx.quote.key-type'],
  },
  {
    id: 'tdx.event-log.replay',
    title: 'Replaying the event log gives RTMR0 to RTMR3 of the quote',
    spec: 'Intel GHCI 348552, CCEL; TCG PC Client Platform Firmware Profile §10',
    gain: 'The log could leave out, add or reorder what was booted.',
    needs: ['tdx.quote.signature', 'tdx.event-log.parse'],
  },
  {
    id: 'tdx.event-log.data',
    title: 'Every event whose digest must be the hash of its data has that digest',
    spec: 'TCG PC Client Platform Firmware Profile §10.4',
    gain: 'The log could say one thing and have measured another.',
    needs: ['tdx.event-log.parse'],
  },
]

function pinned({ id, field, gain }: PinCheck, spec: string, needs: readonly string[]): CheckDefinition {
  return { id, title: `${field} is one your policy names, if it names any`, spec, gain, needs }
}
