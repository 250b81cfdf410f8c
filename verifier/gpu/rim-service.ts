/**
 * NVIDIA's manifest service: what a manifest is called, and what the service answers (NVIDIA "Reference Integrity Manifest
 * service" v1). Names come from the device's signed data only. An answer's own digest has no value: a manifest is worth
 * what its signature is worth. Names are not for ever: NVIDIA signs again under the same one, and corrects values.
 */
import * as v from 'valibot'
import { type Bytes, fromBase64, fromUtf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import type { DeviceFields } from './device-fields.js'
import type { RimRole } from './rim.js'

/** The service's name for the manifest of this role. `product` is the chip as certified: GH100, GB100, LS10 … */
export function rimId(role: RimRole, fields: DeviceFields, product: string): string | undefined {
  const version = fields.vbios.replaceAll('.', '').toUpperCase()
  if (fields.kind === 'switch') return role === 'switch' ? `NV_SWITCH_BIOS_5612_0002_890_${version}` : undefined
  if (role === 'vbios') return `NV_GPU_VBIOS_${fields.project}_${fields.projectSku}_${fields.chipSku}_${version}`
  if (role !== 'driver') return undefined
  if (product === 'GH100') return `NV_GPU_DRIVER_GH100_${fields.driver}`
  return `NV_GPU_CC_DRIVER_${fields.chip ?? 'GB100'}_${fields.driver}`
}

const answerSchema = v.looseObject({ rim: v.pipe(v.string(), v.minLength(1)) })

/** The manifest's XML. @throws FormatError on any other answer. */
export function parseRimAnswer(bytes: Bytes): Bytes {
  let value: unknown
  try {
    value = JSON.parse(fromUtf8(bytes))
  } catch (cause) {
    if (cause instanceof SyntaxError) throw new FormatError('gpu.rim-service', 'manifest service: not JSON')
    throw cause
  }
  const parsed = v.safeParse(answerSchema, value)
  if (!parsed.success) throw new FormatError('gpu.rim-service', 'manifest service: no manifest in the answer')
  return fromBase64(parsed.output.rim)
}
