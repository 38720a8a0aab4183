/**
 * The native TensorFlow library, which is too large to be a dependency of every clone:
 *
 *   npx tsx tools/tfjs-node/build.ts --into /tmp/tfjs-node
 *   PEFTJS_TFJS_NODE=/tmp/tfjs-node npm run test:e2e tests/executors
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = process.env.PEFTJS_TFJS_NODE ?? '';

/**
 * Where it is, or a message that it is missing; the versions of the package and of the library, as in a result file.
 */
export const tensorFlow =
  folder === ''
    ? { where: 'PEFTJS_TFJS_NODE names no folder where it is built' }
    : { where: `built in ${folder}`, versions: installedVersions(join(folder, 'node_modules', '@tensorflow')) };

/** By the notes of npm and of the tool that built it. */
function installedVersions(packages: string): Record<string, string> {
  const installed = readdirSync(packages);
  const name = ['tfjs-node-gpu', 'tfjs-node'].find((candidate) => installed.includes(candidate)) ?? '';
  const read = (file: string): Record<string, string> =>
    JSON.parse(readFileSync(join(packages, name, file), 'utf8')) as Record<string, string>;
  const { version = '' } = read('package.json');
  const { tensorflow = '' } = read('deps/tensorflow.json');
  return { [`@tensorflow/${name}`]: version, tensorflow };
}
