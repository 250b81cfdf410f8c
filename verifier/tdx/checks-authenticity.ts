/** Checks that decide whether a quote is authentic: form, chain, revocation, enclave, signature. In verification order. */
import type { CheckDefinition } from '../checks.js'

const QUOTE = 'Intel TDX DCAP Quoting Library API'
const PROFILE = 'Intel SGX PCK Certificate and CRL Profile 1.5'

export const AUTHENTICITY_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'tdx.quote.parse',
    title: 'The evidence is one attestation quote whose lengths add up',
    spec: `${QUOTE}, Quote Format`,
    gain: 'Bytes around the quote could pass for part of what was signed.',
    advice: 'Pass the quote itself; a raw TDREPORT is signed by nobody.',
    malformed: true,
  },
  {
    id: 'tdx.quote.version',
    title: 'The quote is of version 4 or 5',
    spec: `${QUOTE}, Quote Header`,
    gain: 'Fields of an unknown layout would be read as something they are not.',
    advice: 'Update the verifier if quotes have moved on; version 3 is an SGX quote.',
    needs: ['tdx.quote.parse'],
  },
  {
    id: 'tdx.quote.tee-type',
    title: 'The quote speaks of a TD, in its header and in its body type',
    spec: `${QUOTE}, Quote Header; Quote Body Descriptor`,
    gain: 'An SGX enclave, which anyone may write, could pass for a confidential VM.',
    needs: ['tdx.quote.version'],
  },
  {
    id: 'tdx.quote.key-type',
    title: 'The attestation key is ECDSA on P-256',
    spec: `${QUOTE}, Quote Header`,
    gain: 'The signer could name an algorithm nobody checks.',
    needs: ['tdx.quote.tee-type'],
  },
  {
    id: 'tdx.quote.qe-vendor',
    title: 'The quoting enclave is Intel’s, by its vendor id',
    spec: `${QUOTE}, Quote Header, QE Vendor ID`,
    gain: 'Another vendor’s enclave follows rules this verifier does not know.',
    needs: ['tdx.quote.key-type'],
  },
  {
    id: 'tdx.quote.certification',
    title: 'The certification data are a QE report with a PCK certificate chain inside',
    spec: `${QUOTE}, QE Certification Data`,
    gain: 'Nothing would lead from the attestation key to Intel.',
    advice: 'Ask the platform’s owner to provision it for certification data of type 5.',
    needs: ['tdx.quote.key-type'],
  },
  {
    id: 'tdx.pck.parse',
    title: 'The PCK chain is exactly three well-formed certificates',
    spec: `${PROFILE} §3; RFC 5280 §4.1`,
    gain: 'A chain could mean one thing to this verifier and another to the next.',
    needs: ['tdx.quote.certification'],
  },
  {
    id: 'tdx.pck.root',
    title: 'The chain ends in the pinned Intel root key, or in one your policy adds',
    spec: `${PROFILE} §3, Root CA`,
    gain: 'Anyone could make a hierarchy with Intel’s names and sign any quote.',
    advice: 'Never work around this. For simulated hardware, add its root with --trust-anchor.',
    needs: ['tdx.pck.parse'],
  },
  {
    id: 'tdx.pck.roles',
    title: 'Leaf, intermediate and root are in order and each is what its place requires',
    spec: `${PROFILE} §3; RFC 5280 §4.2.1.3, §4.2.1.9`,
    gain: 'A PCK key could issue certificates, or a collateral signer vouch for machines.',
    needs: ['tdx.pck.parse'],
  },
  {
    id: 'tdx.pck.chain',
    title: 'Every certificate of the chain is signed by the next with ECDSA P-256 and SHA-256',
    spec: `${PROFILE} §3; RFC 5280 §6.1`,
    gain: 'Anyone could certify a key of their own as a platform’s.',
    needs: ['tdx.pck.parse'],
  },
  {
    id: 'tdx.pck.validity',
    title: 'Every certificate of the chain is inside its validity',
    spec: 'RFC 5280 §4.1.2.5',
    gain: 'Keys that were retired could still sign.',
    advice: 'Judge old evidence at its own time with --at.',
    needs: ['tdx.pck.parse'],
  },
  {
    id: 'tdx.pck.extension',
    title: 'The leaf’s SGX extension is complete, strict DER and each member there once',
    spec: `${PROFILE} §4.2, SGX Extensions`,
    gain: 'Leaving out or doubling a member would dodge the comparison that reads it.',
    needs: ['tdx.pck.parse'],
  },
  ...crlChecks('root', 'the root', ['tdx.pck.root']),
  {
    id: 'tdx.crl.intermediate-status',
    title: 'The intermediate is not revoked',
    spec: 'RFC 5280 §6.3',
    gain: 'An authority Intel has given up could still certify keys.',
    needs: ['tdx.crl.root-window'],
  },
  ...crlChecks('pck', 'the intermediate that issued the leaf', ['tdx.pck.root', 'tdx.pck.roles', 'tdx.pck.chain']),
  {
    id: 'tdx.crl.leaf-status',
    title: 'The PCK certificate is not revoked',
    spec: 'RFC 5280 §6.3',
    gain: 'A platform whose keys were extracted could still answer.',
    needs: ['tdx.crl.pck-window'],
  },
  {
    id: 'tdx.qe.signature',
    title: 'The QE report is signed by the PCK key, over the 384 received bytes',
    spec: `${QUOTE}, QE Report Certification Data`,
    gain: 'Any program could claim to be the quoting enclave.',
    needs: ['tdx.pck.chain'],
  },
  {
    id: 'tdx.qe.binding',
    title: 'The QE report holds the hash of the attestation key and the auth data, then zeros',
    spec: `${QUOTE}, QE Report Certification Data, REPORTDATA`,
    gain: 'A genuine QE report could be put beside an attacker’s key.',
    needs: ['tdx.quote.certification'],
  },
  {
    id: 'tdx.quote.signature',
    title: 'The quote is signed by the attestation key, over the received bytes up to the end of the body',
    spec: `${QUOTE}, ECDSA 256-bit Quote Signature Data`,
    gain: 'Every field could be invented.',
    advice: 'Stop: the evidence was altered or signed by another key.',
    needs: ['tdx.quote.certification'],
  },
  {
    id: 'tdx.qe.debug',
    title: 'The quoting enclave does not run in debug mode',
    spec: 'Intel SDM, SGX ATTRIBUTES',
    gain: 'The attestation key could be read out of it.',
    needs: ['tdx.qe.signature'],
  },
]

/** What every CRL goes through: whose it is, who signed it, when it holds. */
function crlChecks(name: 'root' | 'pck', issuer: string, needs: readonly string[]): readonly CheckDefinition[] {
  const list = name === 'root' ? 'The root CRL' : 'The PCK CRL'
  return [
    {
      id: `tdx.crl.${name}-issuer`,
      title: `${list} is at hand, is the list of ${issuer}, and covers all it issued`,
      spec: `${PROFILE} §5; RFC 5280 §5.1.2.3, §5.2.1, §5.2.4, §5.2.5`,
      gain: 'Another authority’s list, a partial one, or none at all could stand in for the one that condemns a key.',
      advice: 'Fetch the list from Intel, or say --revocation available and accept what that gives up.',
      needs,
    },
    {
      id: `tdx.crl.${name}-signature`,
      title: `${list} is signed by ${issuer} with ECDSA P-256 and SHA-256`,
      spec: `${PROFILE} §5; RFC 5280 §6.3.3`,
      gain: 'Anyone could write an empty list.',
      needs: [`tdx.crl.${name}-issuer`],
    },
    {
      id: `tdx.crl.${name}-window`,
      title: `${list} is current`,
      spec: 'RFC 5280 §5.1.2.4, §5.1.2.5',
      gain: 'A list from before the revocation could be replayed for ever.',
      advice: 'Fetch the current list from Intel.',
      needs: [`tdx.crl.${name}-signature`],
    },
  ]
}
