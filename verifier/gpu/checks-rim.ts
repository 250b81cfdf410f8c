/** Checks of reference integrity manifests: the same rules for a driver's, a VBIOS's, a switch's, and one on its own. */
import type { CheckDefinition } from '../checks.js'

const REFERENCE = 'NVIDIA RIM (TCG RIM 1.01, SWID)'
const DSIG = 'W3C xmldsig-core1'

export type RimArea = 'rim' | 'driver-rim' | 'vbios-rim' | 'switch-rim'

/** What a manifest is checked for whatever it is used for. `needs` is the check that yields it. */
function common(area: RimArea, what: string, needs: string): readonly CheckDefinition[] {
  return [
    {
      id: `gpu.${area}.digest`,
      title: `${what} is the document its signature names`,
      spec: `${DSIG} §3.2.1 reference validation`,
      gain: 'Golden values could be edited to whatever an altered firmware measures.',
      advice: 'fetch the manifest again; if it stays like this, somebody altered it',
      needs: [needs],
    },
    {
      id: `gpu.${area}.signature`,
      title: `${what} is signed by the first certificate it carries`,
      spec: `${DSIG} §3.2.2 signature validation`,
      gain: 'Anyone could write a manifest for any firmware.',
      needs: [needs],
    },
    {
      id: `gpu.${area}.chain-root`,
      title: `${what}’s certificates end in the pinned manifest root key, or in one your policy adds`,
      spec: `${REFERENCE} signer chain`,
      gain: 'A manifest for debug firmware, or of anybody’s making, would describe what a genuine device runs.',
      advice: 'never work around this; for simulated hardware, add its root with --trust-anchor',
      needs: [needs],
    },
    {
      id: `gpu.${area}.chain-shape`,
      title: `${what} carries signer, product authority, manifest authority and root, each naming the next`,
      spec: `${REFERENCE} signer chain; RFC 5280 §6.1`,
      gain: 'Certificates of another purpose under the same root could sign manifests.',
      needs: [needs],
    },
    {
      id: `gpu.${area}.chain-signatures`,
      title: `every certificate of ${what} is signed by the next one`,
      spec: 'RFC 5280 §6.1, RFC 5758 §3.2',
      gain: 'Certificates could merely stand beside the root they claim.',
      needs: [needs],
    },
    {
      id: `gpu.${area}.chain-authority`,
      title: `the authorities of ${what} may certify, and its signer may sign and not certify`,
      spec: 'RFC 5280 §4.2.1.3, §4.2.1.9',
      gain: 'Any certificate under the root could be turned into an authority.',
      needs: [needs],
    },
    {
      id: `gpu.${area}.chain-extensions`,
      title: `no certificate of ${what} has a critical extension nobody here understands`,
      spec: 'RFC 5280 §4.2',
      gain: 'A restriction the authority made would be ignored.',
      needs: [needs],
    },
    {
      id: `gpu.${area}.window`,
      title: `every certificate of ${what} is valid at the time of appraisal`,
      spec: 'RFC 5280 §4.1.2.5',
      gain: 'Golden values that were replaced since could be used for ever.',
      advice: 'fetch the manifest again: NVIDIA signs the same versions anew about every two years',
      needs: [needs],
    },
    {
      id: `gpu.${area}.family`,
      title: `the authority that certified ${what}’s signer is the one for its product`,
      spec: `${REFERENCE} signer chain`,
      gain: 'The signer for one product could write manifests for another: all stand under one root.',
      needs: [needs],
    },
    {
      id: `gpu.${area}.golden`,
      title: `${what} holds golden values`,
      spec: `${REFERENCE} Payload`,
      gain: 'A manifest that asks for nothing is satisfied by every firmware.',
      needs: [needs],
    },
  ]
}

/** For a manifest that is itself the target. */
export const RIM_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'gpu.rim.parse',
    title: 'the file is XML without anything two readers could differ about',
    spec: 'XML 1.0, Namespaces in XML 1.0; document types, comments and references refused',
    gain: 'What is verified and what is read could be two different documents.',
    malformed: true,
  },
  {
    id: 'gpu.rim.profile',
    title: 'it is a manifest with one enveloped signature of the one profile accepted',
    spec: `${DSIG} §4; NVIDIA RIM signature profile`,
    gain: 'A genuine signature over something else could be wrapped around forged golden values.',
    needs: ['gpu.rim.parse'],
  },
  ...common('rim', 'the manifest', 'gpu.rim.profile'),
]

/** For manifests a device is held to. `after` are the checks that make the device's own word good. */
export function deviceRimChecks(area: RimArea, what: string, after: readonly string[]): readonly CheckDefinition[] {
  const present = `gpu.${area}.present`
  return [
    {
      id: present,
      title: `${what} is at hand and readable`,
      spec: 'NVIDIA RIM service; identifiers from signed opaque data',
      gain: 'Genuine hardware would vouch for any firmware at all.',
      advice: 'fetch the manifest from NVIDIA’s RIM service, or ask the worker to staple it',
      needs: after,
    },
    ...common(area, what, present),
    {
      id: `gpu.${area}.product`,
      title: `${what} is about the chip the device is certified as`,
      spec: `${REFERENCE} Meta product`,
      gain: 'A genuine manifest of another family would be compared instead.',
      needs: [present],
    },
    {
      id: `gpu.${area}.version`,
      title: `${what} is about exactly the version the device reports`,
      spec: `${REFERENCE} Meta colloquialVersion`,
      gain: 'Firmware with known holes could be measured against whichever manifest it happens to satisfy.',
      advice: 'fetch the manifest for the version the device reports',
      needs: [present],
    },
  ]
}
