/**
 * Imported first by every command: says in one sentence that this Node is too old, before anything newer is evaluated.
 * Node only.
 */
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 20 || (major === 20 && minor < 19)) {
  process.stderr.write(`subrosa needs Node 20.19 or newer; this is ${process.versions.node}\n`)
  process.exit(2)
}
