/**
 * Evidence through `/dev/sev-guest` (Linux 5.19, include/uapi/linux/sev-guest.h), for kernels without configfs-tsm. The extended
 * request also brings the host's certificate table; a host whose table is too large, or that has none, still gets asked for
 * the report alone.
 *
 * The host may throttle guests. It is then asked again, after longer and longer waits; every other refusal ends the attempt,
 * because a driver that fails half way wipes its message key rather than use a nonce twice.
 */
import { type Bytes, equalBytes } from '../../verifier/protocol/bytes.js'
import { WorkerError } from '../errors.js'
import { certificatesOf } from './certificate-table.js'
import { REPORT_DATA_BYTES, readEvidenceFields, SNP_REPORT_BYTES } from './evidence-fields.js'
import { errnoOf, openDevice } from './kernel-files.js'
import { addressOf, loadLibrary, type NativeResult } from './native.js'
import type { EvidenceSource, MadeEvidence } from './source.js'

const SEV_GUEST_DEVICE = '/dev/sev-guest'

const SNP_GET_REPORT = 0xc020_5300
const SNP_GET_EXT_REPORT = 0xc020_5302

/** struct snp_guest_request_ioctl: u8 version, 7 padding, u64 request, u64 response, u64 error. */
const ARGUMENT_BYTES = 32
/** struct snp_report_req: user data 64, u32 VMPL, 28 reserved. */
const REPORT_REQUEST_BYTES = 96
/** struct snp_ext_report_req: the former, u64 certificate address, u32 certificate length, padding. */
const EXT_REQUEST_BYTES = 112
/** struct snp_report_resp: 4000 bytes; MSG_REPORT_RSP begins with u32 status, u32 size, 24 reserved. */
const RESPONSE_BYTES = 4000
const RESPONSE_HEADER_BYTES = 32
const PAGE_BYTES = 4096
const MAX_CERTIFICATE_BYTES = 4 * PAGE_BYTES

/** High half of the error word: what the host says (AMD 56421 "GHCB", SNP Guest Request). */
const VMM_INVALID_LENGTH = 1
const VMM_BUSY = 2

const BUSY_ATTEMPTS = 6
const FIRST_PAUSE_MS = 250

/** One ioctl on the device; for tests. */
export type SevGuestCall = (request: number, argument: Bytes) => Promise<NativeResult>

export interface SevGuestOptions {
  readonly call?: SevGuestCall
  readonly sleep?: (ms: number) => Promise<void>
}

/** @throws WorkerError `worker.no-tee` without the device, `worker.platform` when it may not be opened. */
export async function openSevGuest(options: SevGuestOptions = {}): Promise<EvidenceSource> {
  const call = options.call ?? (await sevGuestDevice())
  const sleep = options.sleep ?? ((ms) => new Promise<void>((resolve) => setTimeout(resolve, ms)))
  const request = (code: number, argument: Bytes) => requestPatiently(call, sleep, code, argument)
  return {
    name: 'sev-guest',
    kind: 'snp',
    async make(reportData) {
      if (reportData.length !== REPORT_DATA_BYTES) {
        throw new RangeError(`report data: expected 64 bytes, got ${reportData.length}`)
      }
      const { response, table } =
        (await extendedReport(request, reportData)) ?? (await plainReport(request, reportData))
      return evidenceIn(response, table, reportData)
    },
  }
}

async function sevGuestDevice(): Promise<SevGuestCall> {
  try {
    const device = await openDevice(SEV_GUEST_DEVICE)
    const libc = loadLibrary(undefined, { ioctl: 'int ioctl(int fd, ulong request, void *argument)' })
    return (request, argument) => libc.call('ioctl', device.fd, request, argument)
  } catch (cause) {
    const errno = errnoOf(cause)
    if (errno === 'ENOENT' || errno === 'ENXIO' || errno === 'ENODEV') {
      throw new WorkerError('worker.no-tee', `no ${SEV_GUEST_DEVICE}`, { cause })
    }
    throw new WorkerError('worker.platform', `${SEV_GUEST_DEVICE} cannot be opened (${errno})`, { cause })
  }
}

interface Answer {
  readonly response: Bytes
  readonly table: Bytes
}

type Request = (code: number, argument: Bytes) => Promise<GuestError | undefined>

async function plainReport(request: Request, reportData: Bytes): Promise<Answer> {
  const body = new Uint8Array(REPORT_REQUEST_BYTES)
  body.set(reportData)
  const response = new Uint8Array(RESPONSE_BYTES)
  const error = await request(SNP_GET_REPORT, argumentFor(body, response))
  if (error !== undefined) throw refusal(error)
  return { response, table: new Uint8Array() }
}

/** Undefined where the host's table does not fit any buffer the driver takes. */
async function extendedReport(request: Request, reportData: Bytes): Promise<Answer | undefined> {
  for (let length = PAGE_BYTES; length <= MAX_CERTIFICATE_BYTES; ) {
    const table = new Uint8Array(length)
    const body = new Uint8Array(EXT_REQUEST_BYTES)
    body.set(reportData)
    const view = new DataView(body.buffer)
    view.setBigUint64(96, addressOf(table), true)
    view.setUint32(104, length, true)
    const response = new Uint8Array(RESPONSE_BYTES)
    const error = await request(SNP_GET_EXT_REPORT, argumentFor(body, response))
    if (error === undefined) return { response, table }
    if (error.vmm !== VMM_INVALID_LENGTH) throw refusal(error)
    // The driver has put the length it takes into the request; one that asks for no more would ask for ever.
    const needed = Math.ceil(view.getUint32(104, true) / PAGE_BYTES) * PAGE_BYTES
    if (needed <= length) return undefined
    length = needed
  }
  return undefined
}

function argumentFor(request: Bytes, response: Bytes): Bytes {
  const argument = new Uint8Array(ARGUMENT_BYTES)
  const view = new DataView(argument.buffer)
  view.setUint8(0, 1)
  view.setBigUint64(8, addressOf(request), true)
  view.setBigUint64(16, addressOf(response), true)
  return argument
}

interface GuestError {
  readonly errno: string
  readonly firmware: number
  readonly vmm: number
}

/** Undefined for success. Throttling, in any of its spellings, is waited out. */
async function requestPatiently(
  call: SevGuestCall,
  sleep: (ms: number) => Promise<void>,
  code: number,
  argument: Bytes,
): Promise<GuestError | undefined> {
  for (let attempt = 1; ; attempt++) {
    new DataView(argument.buffer).setBigUint64(24, 0n, true)
    const { value, errno } = await call(code, argument)
    const view = new DataView(argument.buffer)
    const error = { errno, firmware: view.getUint32(24, true), vmm: view.getUint32(28, true) }
    if (value === 0 && error.firmware === 0 && error.vmm === 0) return undefined
    const throttled = error.vmm === VMM_BUSY || (value !== 0 && (errno === 'EAGAIN' || errno === 'EINTR'))
    if (!throttled || attempt === BUSY_ATTEMPTS) return error
    await sleep(FIRST_PAUSE_MS * 2 ** (attempt - 1))
  }
}

function evidenceIn(response: Bytes, table: Bytes, reportData: Bytes): MadeEvidence {
  const view = new DataView(response.buffer)
  const status = view.getUint32(0, true)
  if (status !== 0) {
    throw new WorkerError('worker.platform', `the firmware refused to make a report: ${nameOf(status)}`)
  }
  const size = view.getUint32(4, true)
  if (size !== SNP_REPORT_BYTES) {
    throw new WorkerError(
      'worker.platform',
      `the firmware made a report of ${size} bytes, expected ${SNP_REPORT_BYTES}`,
    )
  }
  const evidence = response.slice(RESPONSE_HEADER_BYTES, RESPONSE_HEADER_BYTES + SNP_REPORT_BYTES)
  const fields = readEvidenceFields('snp', evidence)
  if (!equalBytes(fields.reportData, reportData)) {
    throw new WorkerError('worker.platform', 'the report is not for the report data asked for')
  }
  return { evidence, hostData: fields.hostData, certificates: certificatesOf(table) }
}

/** Status codes of the firmware (AMD 56860 "Status Codes", AMD 55766), as far as a guest request can meet them. */
const FIRMWARE: Readonly<Record<number, string>> = {
  1: 'INVALID_PLATFORM_STATE',
  2: 'INVALID_GUEST_STATE',
  3: 'INVALID_CONFIG',
  4: 'INVALID_LENGTH',
  7: 'POLICY_FAILURE',
  8: 'INACTIVE',
  9: 'INVALID_ADDRESS',
  10: 'BAD_SIGNATURE',
  11: 'BAD_MEASUREMENT',
  16: 'INVALID_GUEST',
  17: 'INVALID_COMMAND',
  18: 'ACTIVE',
  19: 'HWERROR_PLATFORM',
  20: 'HWERROR_UNSAFE',
  21: 'UNSUPPORTED',
  22: 'INVALID_PARAM',
  23: 'RESOURCE_LIMIT',
  24: 'SECURE_DATA_INVALID',
  25: 'INVALID_PAGE_SIZE',
  26: 'INVALID_PAGE_STATE',
  27: 'INVALID_MDATA_ENTRY',
  28: 'INVALID_PAGE_OWNER',
  29: 'AEAD_OFLOW',
  33: 'BAD_SVN',
  34: 'BAD_VERSION',
  35: 'SHUTDOWN_REQUIRED',
  37: 'RESTORE_REQUIRED',
  39: 'INVALID_KEY',
  4294967295: 'NO_FW_CALL',
}

function nameOf(status: number): string {
  return FIRMWARE[status] ?? `0x${status.toString(16)}`
}

function refusal({ errno, firmware, vmm }: GuestError): WorkerError {
  const why =
    vmm === VMM_BUSY
      ? 'the host keeps throttling this machine’s reports'
      : vmm === VMM_INVALID_LENGTH
        ? 'the host’s certificate table does not fit'
        : vmm !== 0
          ? `the host refused it (error ${vmm})`
          : firmware !== 0
            ? `the firmware answered ${nameOf(firmware)}`
            : errno === 'ENOTTY'
              ? 'the message key was wiped after an earlier error; restart the machine'
              : `the driver failed (${errno})`
  return new WorkerError('worker.platform', `${SEV_GUEST_DEVICE} made no report: ${why}`)
}
