/**
 * MRTD (Intel TDX Module Base Architecture 348549 §"Measurement and Attestation"; TDX Module ABI, TDH.MEM.PAGE.ADD and
 * TDH.MR.EXTEND): one running SHA-384 over a record for each page added and each 256-byte chunk measured.
 *
 * The order is the VMM's. QEMU 10.1 and later with upstream KVM measures each page as it adds it; older stacks add all
 * pages of a section first. Both values exist in the field. No value computed here was compared with a TDX CPU.
 */
import { type Bytes, utf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { createSha384, type HashStream } from '../protocol/hash.js'
import { checkTdxSection, type FirmwareFile, PAGE_BYTES, type TdxSection } from './firmware.js'

export type PassOrder = 'single-pass' | 'two-pass'

const RECORD_BYTES = 128
const CHUNK_BYTES = 256
const PAGE_ADD = utf8('MEM.PAGE.ADD')
const EXTEND = utf8('MR.EXTEND')

/** 48 bytes. @throws FormatError when the firmware has no TDX metadata, or its sections are unsound. */
export function computeMrTd(firmware: Pick<FirmwareFile, 'bytes' | 'tdx'>, order: PassOrder): Bytes {
  if (firmware.tdx === undefined) throw new FormatError('measure.no-tdx', 'firmware: it has no TDX metadata')
  const hash = createSha384()
  for (const section of firmware.tdx) measureSection(hash, firmware.bytes, section, order)
  return hash.digest()
}

function measureSection(hash: HashStream, file: Bytes, section: TdxSection, order: PassOrder): void {
  const { fileOffset, gpa, memorySize, extend, acceptedLater } = checkTdxSection(section, file.length)
  const pages = acceptedLater ? 0 : Number(memorySize) / PAGE_BYTES
  const add = (page: number): void => {
    hash.update(record(PAGE_ADD, gpa + BigInt(page * PAGE_BYTES)))
  }
  const measure = (page: number): void => {
    for (let at = page * PAGE_BYTES; at < (page + 1) * PAGE_BYTES; at += CHUNK_BYTES) {
      hash.update(record(EXTEND, gpa + BigInt(at)))
      hash.update(file.subarray(fileOffset + at, fileOffset + at + CHUNK_BYTES))
    }
  }
  for (let page = 0; page < pages; page++) {
    add(page)
    if (extend && order === 'single-pass') measure(page)
  }
  for (let page = 0; extend && order === 'two-pass' && page < pages; page++) measure(page)
}

function record(name: Bytes, gpa: bigint): Bytes {
  const out = new Uint8Array(RECORD_BYTES)
  out.set(name)
  new DataView(out.buffer).setBigUint64(16, gpa, true)
  return out
}
