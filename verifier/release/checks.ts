/** The checks on whose release a launch is. They take part only under a policy that names releases. */
import type { CheckDefinition } from '../checks.js'

/** `cpuSignature` stands for the vendor's signature check: before it, the launch digest is nobody's word. */
export function releaseChecks(cpuSignature: string): readonly CheckDefinition[] {
  return [
    {
      id: 'release.present',
      title: 'A release manifest that names this launch is at hand',
      spec: 'PROTOCOL.md P-13.1',
      gain: 'Software that nobody released could be taken for software that somebody did.',
      advice:
        'give the release’s manifest with --endorsements, or ask the provider to staple it; if there is none, do not use this worker',
      needs: [cpuSignature],
    },
    {
      id: 'release.signature',
      title: 'The manifest is signed by a release key your policy names',
      spec: 'PROTOCOL.md P-13.2, C2SP signed-note',
      gain: 'Anyone could write a manifest for software of their own.',
      needs: ['release.present'],
    },
    {
      id: 'release.logged',
      title: 'The manifest is in the log your policy names, by a checkpoint the log signed',
      spec: 'PROTOCOL.md P-13.3, C2SP tlog-proof, RFC 9162 §2.1.3.2',
      gain: 'A release could be signed for one victim alone, where nobody else would ever see it.',
      advice: 'do not use this worker until its release is public; a log proof goes beside the manifest',
      needs: ['release.signature'],
    },
    {
      id: 'release.witnessed',
      title: 'As many witnesses as your policy wants saw that checkpoint',
      spec: 'PROTOCOL.md P-13.4, C2SP tlog-cosignature',
      gain: 'Whoever runs the log could show you a version of it that nobody else is shown.',
      needs: ['release.logged'],
    },
    {
      id: 'release.index',
      title: 'An index of releases signed by a release key is at hand',
      spec: 'PROTOCOL.md P-13.5',
      gain: 'A release withdrawn for a hole in it would go on being accepted by those who are kept from hearing of it.',
      advice: 'give the newest index with --endorsements',
      needs: [cpuSignature],
    },
    {
      id: 'release.floor',
      title: 'The release is no older than the floor of the index and of your policy',
      spec: 'PROTOCOL.md P-13.6',
      gain: 'An old release with known holes could be booted in place of the current one.',
      advice: 'choose a worker that runs a newer release',
      needs: ['release.signature', 'release.index'],
    },
    {
      id: 'release.denied',
      title: 'The index denies neither this release nor this launch',
      spec: 'PROTOCOL.md P-13.6',
      gain: 'Software its own publisher warns of would still be trusted with prompts.',
      advice: 'choose a worker that runs another release',
      needs: ['release.present', 'release.index'],
    },
  ]
}
