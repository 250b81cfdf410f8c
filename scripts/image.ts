/** `npm run image [-- COMMAND]`: the enclave image, from its sources and its lock. */
import { ImageError } from './image/command.js'
import { saveLock } from './image/lock.js'
import { createLock } from './image/lock-refresh.js'

if (process.argv[2] === 'lock') await saveLock(await createLock())
else throw new ImageError('soon')
