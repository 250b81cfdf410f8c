/**
 * The firmware identity (FWID) that the boot ROM certified into the leaf (TCG DICE Attestation Architecture): on Hopper a
 * CompositeDeviceID, on Blackwell a DiceTcbInfo. Both carry SHA-384 of the firmware that signs the report.
 */
import { childrenOf, type DerElement, expectTag, oidText, readDer, smallInteger, TAG } from '../der.js'
import type { Bytes } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import type { Certificate } from '../x509.js'

const COMPOSITE_DEVICE_ID = '2.23.133.5.4.1'
const DICE_TCB_INFO = '2.23.133.5.4.1.1'
/** DiceTcbInfo.fwids, `[6] IMPLICIT FWIDLIST`. */
const FWIDS_TAG = 0xa6
const SHA384 = '2.16.840.1.101.3.4.2.2'
const FWID_BYTES = 48

/** The FWID of the firmware, undefined when the leaf certifies none. @throws FormatError on a malformed extension. */
export function certifiedFwid(leaf: Certificate): Bytes | undefined {
  const composite = leaf.extensions.get(COMPOSITE_DEVICE_ID)
  const tcbInfo = leaf.extensions.get(DICE_TCB_INFO)
  if (composite !== undefined && tcbInfo !== undefined) {
    throw new FormatError('gpu.fwid', 'the leaf certifies its firmware in two ways')
  }
  if (composite !== undefined) return fromCompositeDeviceId(composite.value)
  return tcbInfo === undefined ? undefined : fromTcbInfo(tcbInfo.value)
}

/** SEQUENCE { version INTEGER, deviceId SubjectPublicKeyInfo, fwid FWID } */
function fromCompositeDeviceId(value: Bytes): Bytes {
  const what = 'composite device id'
  const [version, key, fwid, ...extra] = childrenOf(expectTag(readDer(value, what), TAG.sequence, what), what)
  smallInteger(version, what)
  expectTag(key, TAG.sequence, what)
  if (extra.length > 0) throw new FormatError('gpu.fwid', `${what}: unexpected elements`)
  return digestOf(fwid, what)
}

/** Element 0 is the firmware that signs; NVIDIA's devices leave the second one zero. */
function fromTcbInfo(value: Bytes): Bytes {
  const what = 'DICE TCB info'
  const fields = childrenOf(expectTag(readDer(value, what), TAG.sequence, what), what)
  const [list, ...extra] = fields.filter((field) => field.tag === FWIDS_TAG)
  if (list === undefined || extra.length > 0) throw new FormatError('gpu.fwid', `${what}: expected one list of FWIDs`)
  return digestOf(childrenOf(list, what)[0], what)
}

function digestOf(fwid: DerElement | undefined, what: string): Bytes {
  const [algorithm, digest, ...extra] = childrenOf(expectTag(fwid, TAG.sequence, what), what)
  const { content } = expectTag(digest, TAG.octetString, what)
  if (oidText(algorithm, what) !== SHA384 || content.length !== FWID_BYTES || extra.length > 0) {
    throw new FormatError('gpu.fwid', `${what}: expected a SHA-384 digest`)
  }
  return content
}
