/**
 * Imported before the runtime. ONNX Runtime otherwise keeps a device id and run counts in files under the home folder and
 * looks up its maker's collector; a worker writes nothing and talks to nobody (SECURITY.md).
 */
process.env['ORT_DISABLE_TELEMETRY'] = '1'
