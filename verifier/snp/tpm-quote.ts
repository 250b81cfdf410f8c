/**
 * A TPM 2.0 quote (TPMS_ATTEST, TCG TPM 2.0 Library Part 2 §10.12.8): big-endian, read strictly.
 *
 * Refused: bytes not marked as made inside a TPM, another kind of attestation, more than 16 PCR banks, trailing bytes.
 */
import { ByteReader, type Bytes, concat, equalBytes } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha256 } from '../protocol/hash.js'

export interface PcrSelection {
  /** TPM_ALG_ID of the bank: 0x000b is SHA-256. */
  readonly hash: number
  /** Selected PCR indices, ascending. */
  readonly indices: readonly number[]
}

export interface TpmQuote {
  /** extraData: what the challenger asked to have signed. */
  readonly qualifyingData: Bytes
  readonly selections: readonly PcrSelection[]
  readonly pcrDigest: Bytes
}

const TPM_GENERATED_VALUE = 0xff544347
const TPM_ST_ATTEST_QUOTE = 0x8018
const TPM_ALG_SHA256 = 0x000b
const MAX_BANKS = 16

/** @throws FormatError on anything but one whole quote. */
export function readTpmQuote(message: Uint8Array): TpmQuote {
  const reader = new ByteReader(message, 'TPM quote')
  if (reader.u32be() !== TPM_GENERATED_VALUE) throw new FormatError('snp.tpm.magic', 'TPM quote: not made by a TPM')
  const type = reader.u16be()
  if (type !== TPM_ST_ATTEST_QUOTE) {
    throw new FormatError('snp.tpm.type', `TPM quote: attestation type 0x${type.toString(16)}, expected a quote`)
  }
  reader.take(reader.u16be())
  const qualifyingData = reader.take(reader.u16be())
  // clockInfo (clock, resetCount, restartCount, safe) and firmwareVersion.
  reader.take(17 + 8)
  const banks = reader.u32be()
  if (banks > MAX_BANKS) throw new FormatError('snp.tpm.banks', `TPM quote: ${banks} PCR banks`)
  const selections = Array.from({ length: banks }, () => readSelection(reader))
  const pcrDigest = reader.take(reader.u16be())
  reader.end()
  return { qualifyingData, selections, pcrDigest }
}

/** Whether these PCR values, SHA-256 bank, index by index, are the ones the quote digests. */
export function matchPcrs(quote: TpmQuote, pcrs: readonly Uint8Array[]): boolean {
  const selected: Uint8Array[] = []
  for (const { hash, indices } of quote.selections) {
    if (hash !== TPM_ALG_SHA256) return false
    for (const index of indices) {
      const value = pcrs[index]
      if (value === undefined || value.length !== 32) return false
      selected.push(value)
    }
  }
  // A quote of no PCRs says nothing about any.
  if (selected.length === 0) return false
  return equalBytes(sha256(concat(...selected)), quote.pcrDigest)
}

function readSelection(reader: ByteReader): PcrSelection {
  const hash = reader.u16be()
  const bitmap = reader.take(reader.u8())
  const indices: number[] = []
  for (const [byte, bits] of bitmap.entries()) {
    for (let bit = 0; bit < 8; bit++) if (((bits >> bit) & 1) === 1) indices.push(8 * byte + bit)
  }
  return { hash, indices }
}
