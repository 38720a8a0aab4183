import { execFileSync } from 'node:child_process';
import { missingBuild } from '../../tools/release/packed.js';

/** The reason why nothing can be installed here. */
function missingRegistry(): string | undefined {
  try {
    execFileSync('npm', ['view', '@tensorflow/tfjs-core@4.22.0', 'version', '--fetch-retries=0'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return "npm's registry is out of reach";
  }
}

/** Why no package can be installed from its tarball, if none can. */
export const missing = missingBuild() ?? missingRegistry();

/** A suffix for test titles. */
export const skipped = missing === undefined ? '' : ` (skipped: ${missing})`;
