/** `npm run image [-- COMMAND]`: the enclave image, from its sources and its lock. */
import { runImageCommand } from './image/cli.js'

process.exitCode = await runImageCommand(process.argv)
