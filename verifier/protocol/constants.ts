/** Names and limits that both ends and every verifier agree on. PROTOCOL.md lists them; tests compare. */

/** EAT profile (RFC 9711 §4.3.2) of the statement this version makes. */
export const STATEMENT_PROFILE = 'tag:subrosa,2026:statement/1'
/** CMW collection type of an evidence bundle. */
export const BUNDLE_TYPE = 'tag:subrosa,2026:bundle/1'

/** Domain separation labels; each is followed by one zero byte when hashed or signed. */
export const DOMAIN_GPU_NONCE = 'subrosa gpu-nonce/1'
export const DOMAIN_KEY_CONFIGURATION = 'subrosa key-configuration/1'
export const DOMAIN_OPERATOR = 'subrosa operator/1'

export const MEDIA_TYPE_BUNDLE = 'application/vnd.subrosa.bundle+cbor'
export const MEDIA_TYPE_CLAIMS = 'application/vnd.subrosa.claims+cbor'
export const MEDIA_TYPE_SIGNED_KEYS = 'application/vnd.subrosa.key-configurations+cbor'
export const MEDIA_TYPE_NONCE_PROOF = 'application/vnd.subrosa.nonce-proof+cbor'
export const MEDIA_TYPE_OPERATOR = 'application/vnd.subrosa.operator+cbor'
export const MEDIA_TYPE_SNP_REPORT = 'application/vnd.amd.sev-snp.report'
export const MEDIA_TYPE_TDX_QUOTE = 'application/vnd.intel.tdx.quote'
export const MEDIA_TYPE_NVIDIA_EVIDENCE = 'application/vnd.nvidia.gpu.evidence+cbor'
export const MEDIA_TYPE_EVENT_LOG = 'application/vnd.tcg.event-log'
export const MEDIA_TYPE_CERTIFICATE = 'application/pkix-cert'
export const MEDIA_TYPE_CRL = 'application/pkix-crl'
export const MEDIA_TYPE_OCSP = 'application/ocsp-response'
export const MEDIA_TYPE_RIM = 'application/xml'
export const MEDIA_TYPE_JSON = 'application/json'
/** Signed manifests and indexes of releases, and proofs that a log has them (PROTOCOL.md §13). */
export const MEDIA_TYPE_RELEASE = 'application/vnd.subrosa.release'
export const MEDIA_TYPE_RELEASE_INDEX = 'application/vnd.subrosa.release-index'
export const MEDIA_TYPE_TLOG_PROOF = 'application/vnd.subrosa.tlog-proof'
export const MEDIA_TYPE_SIGSTORE = 'application/vnd.dev.sigstore.bundle+json'
export const MEDIA_TYPE_OHTTP_KEYS = 'application/ohttp-keys'

export const PATH_ATTESTATION = '/.well-known/attestation'
export const PATH_OHTTP_KEYS = '/.well-known/ohttp-keys'
export const PATH_OHTTP = '/ohttp'

/** Bytes in a client nonce. */
export const CLIENT_NONCE_BYTES = 32
/** Longest life of one HPKE key configuration, in seconds. */
export const MAX_KEY_LIFETIME_S = 600
/** Longest life of `fresh`, in seconds: how long one report may stand for a live worker. */
export const MAX_EVIDENCE_LIFETIME_S = 3600
/** Longest life of one boot's identity key, in seconds. */
export const MAX_IDENTITY_LIFETIME_S = 86_400
/** Tolerated difference between the client's clock and a worker's, in seconds. */
export const CLOCK_SKEW_S = 120
/** Largest bundle read, in bytes. */
export const MAX_BUNDLE_BYTES: number = 16 * 1024 * 1024

/** Most bytes of one inner request's content (P-7.9): what a worker parses and answers, so the most a client seals. */
export const MAX_REQUEST_CONTENT_BYTES: number = 1024 * 1024
/** Most bytes of one encapsulated request: twice that, for header fields, padding to a bucket and the seal. */
export const MAX_SEALED_REQUEST_BYTES: number = 2 * MAX_REQUEST_CONTENT_BYTES

/** Inner request headers: a request is processed once under one (P-7.8); receipts under one form a chain (P-10.3). */
export const IDEMPOTENCY_HEADER = 'idempotency-key'
export const SESSION_HEADER = 'subrosa-session'
/** Inner header of requests and responses: what a session's prompts are kept under (P-10.5), or a wish for one. */
export const REUSE_HEADER = 'subrosa-reuse'
export const NEW_REUSE_TOKEN = 'new'
