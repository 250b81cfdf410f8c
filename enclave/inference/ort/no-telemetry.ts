/**
 * Imported before the runtime. ONNX Runtime otherwise keeps a device id and run counts in files under the home folder and
 * looks up its maker's collector, and drivers of devices keep compiled programs there; a worker writes nothing and talks to
 * nobody (SECURITY.md).
 */
process.env['ORT_DISABLE_TELEMETRY'] = '1'
process.env['CUDA_CACHE_DISABLE'] = '1'
// Of NVIDIA's and Mesa's Vulkan drivers.
process.env['__GL_SHADER_DISK_CACHE'] = '0'
process.env['MESA_SHADER_CACHE_DISABLE'] = 'true'
