/**
 * Two modules of undici by themselves: its index also replaces the dispatcher of every `fetch` in the process, and takes three times
 * as long to load.
 */
declare module 'undici/lib/dispatcher/client.js' {
  export { Client as default } from 'undici'
}

declare module 'undici/lib/core/connect.js' {
  export { buildConnector as default } from 'undici'
}
