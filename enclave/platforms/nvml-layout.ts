/**
 * NVML's structures and numbers, as far as confidential computing takes them (nvml.h of driver 550 and later; x86-64 and
 * AArch64, natural alignment). Offsets are in bytes; integers little-endian.
 */

/** nvmlConfComputeSystemState_t: environment, CC feature, developer tools; no version word. */
export const STATE = { bytes: 12, environment: 0, ccFeature: 4, devToolsMode: 8 } as const

/** nvmlSystemConfComputeSettings_v1_t. */
export const SETTINGS = {
  bytes: 20,
  version: 0x0100_0014,
  versionAt: 0,
  environment: 4,
  ccFeature: 8,
  devToolsMode: 12,
  multiGpuMode: 16,
} as const

/** nvmlConfComputeGpuCertificate_t: PEM text, of which the attestation chain is the second. */
export const CERTIFICATE = { bytes: 9224, attestationSize: 4, attestation: 4104, attestationMaxBytes: 0x1400 } as const

/** nvmlConfComputeGpuAttestationReport_t: the nonce goes in, the report comes out. */
export const REPORT = {
  bytes: 12_332,
  reportSize: 4,
  nonce: 12,
  nonceBytes: 32,
  report: 44,
  reportMaxBytes: 0x2000,
} as const

export const PERSISTENCE_ENABLED = 1
export const READY = 1

export const ENVIRONMENTS: readonly string[] = ['unavailable', 'simulation', 'production']

/** nvmlReturn_t. */
export const RETURN_CODES: Readonly<Record<number, string>> = {
  1: 'NVML is not initialised',
  2: 'invalid argument; of the ready state: it is final until the machine restarts',
  3: 'not supported: confidential computing is off',
  4: 'no permission: this takes root',
  6: 'not found',
  9: 'the driver is not loaded',
  10: 'the driver gave no answer in time',
  15: 'the GPU is lost: restart the machine',
  16: 'the GPU has to be reset',
  18: 'driver and library are of different versions',
  27: 'the GPU is not ready',
  999: 'unknown failure',
}

/** C prototypes; every structure is a zeroed buffer of exactly its size. */
export const PROTOTYPES = {
  nvmlInit_v2: 'int nvmlInit_v2()',
  nvmlShutdown: 'int nvmlShutdown()',
  nvmlSystemGetDriverVersion: 'int nvmlSystemGetDriverVersion(void *text, uint32_t length)',
  nvmlDeviceGetCount_v2: 'int nvmlDeviceGetCount_v2(void *count)',
  nvmlDeviceGetHandleByIndex_v2: 'int nvmlDeviceGetHandleByIndex_v2(uint32_t index, void *device)',
  nvmlDeviceGetPersistenceMode: 'int nvmlDeviceGetPersistenceMode(void *device, void *mode)',
  nvmlDeviceSetPersistenceMode: 'int nvmlDeviceSetPersistenceMode(void *device, uint32_t mode)',
  nvmlSystemGetConfComputeState: 'int nvmlSystemGetConfComputeState(void *state)',
  nvmlSystemGetConfComputeSettings: 'int nvmlSystemGetConfComputeSettings(void *settings)',
  nvmlSystemGetConfComputeGpusReadyState: 'int nvmlSystemGetConfComputeGpusReadyState(void *accepting)',
  nvmlSystemSetConfComputeGpusReadyState: 'int nvmlSystemSetConfComputeGpusReadyState(uint32_t accepting)',
  nvmlDeviceGetConfComputeGpuCertificate: 'int nvmlDeviceGetConfComputeGpuCertificate(void *device, void *certificate)',
  nvmlDeviceGetConfComputeGpuAttestationReport:
    'int nvmlDeviceGetConfComputeGpuAttestationReport(void *device, void *report)',
} as const satisfies Record<string, string>
