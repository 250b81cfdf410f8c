/** Where the engine computes. A host chooses it, and the statement's `engine` text names it (PROTOCOL.md §4 and §8). */
export const DEVICES = ['cpu', 'cuda', 'webgpu'] as const

/** `cuda`: an NVIDIA GPU. `webgpu`: whatever device of this machine speaks Vulkan. */
export type Device = (typeof DEVICES)[number]

/** What is computed on, unless somebody says otherwise. */
export const DEFAULT_DEVICE: Device = 'cpu'
