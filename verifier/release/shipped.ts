/**
 * What this release of the verifier knows of its publisher's releases: the files of `releases/`, word for word (a test
 * compares them). The index is a rollback floor: with it at hand, nobody can keep an older one's denials from being known.
 */

/** Signs manifests and the index of Subrosa's own publisher. */
export const SHIPPED_RELEASE_KEY = 'subrosa/releases+88038148+ASOmjp6X/b3kMIFnHKr/ie50HGR/d36GXY8E6m1Vq4q5'

/** Signs the checkpoints of its log. */
export const SHIPPED_LOG_KEY = 'subrosa/release-log+9473dbd7+ATWiUE50xYaA+54xEBvM2T+alOoAspgcLudn4qhddOsc'

export const SHIPPED_INDEX: string = `{
  "schema": "subrosa-releases/1",
  "date": "2026-11-27T15:00:00Z",
  "floor": "0.1.0",
  "denied": []
}

— subrosa/releases iAOBSAYdfArgh0fkSblPiqbl48mzfaYVeQuaZQnMKT+BJR1UrDlDC3lqoc5GkDJkNCjFsPt/A5NCipu3ltFbAP76egc=
`
