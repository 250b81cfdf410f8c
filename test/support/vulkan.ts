/**
 * A Vulkan device without a GPU, for the tests that take one: SwiftShader, which Debian's chromium brings, through libvulkan1. A
 * machine whose VK_ICD_FILENAMES is set uses what it names. `undefined`, with the reason, where there is none.
 */
import { existsSync } from 'node:fs'

const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json'
const LOADERS = ['/usr/lib/x86_64-linux-gnu/libvulkan.so.1', '/usr/lib64/libvulkan.so.1', '/usr/lib/libvulkan.so.1']

/** Chooses it for this process. What is missing; undefined where the device is there. */
export function chooseVulkanDevice(): string | undefined {
  if (!LOADERS.some((path) => existsSync(path))) return 'no libvulkan1'
  if (process.env['VK_ICD_FILENAMES'] !== undefined) return undefined
  if (!existsSync(SWIFTSHADER)) return 'no chromium, which has a Vulkan device in software'
  process.env['VK_ICD_FILENAMES'] = SWIFTSHADER
  return undefined
}
