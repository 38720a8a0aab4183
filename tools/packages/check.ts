/**
 * Checks the built packages, or some of them, as npm would publish them:
 *
 *   npm run check:packages [-- --projects=@peftjs/core,@peftjs/sora]
 *
 * publint and attw look at the exports and their types, and size-limit at the size of the build. Exits with 1 if they
 * find anything.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { problemKindInfo } from '@arethetypeswrong/core/problems';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { packPackages } from '../release/packed.js';
import { chosenFolders, manifestIn } from './folders.js';

/** Ways to import that packages of ES modules alone do not support: attw's profile `esm-only`. */
const UNSUPPORTED: readonly string[] = ['node10', 'node16-cjs'];

const folders = chosenFolders(process.argv.slice(2));
const tarballs = mkdtempSync(join(tmpdir(), 'peftjs-tarballs-'));
try {
  const packed = await packPackages(tarballs, { only: folders.map((each) => manifestIn(each).name) });
  for (const folder of folders) {
    const { name } = manifestIn(folder);
    const { tarball } = packed.find((each) => each.name === name) ?? {};
    const bytes = readFileSync(tarball ?? '');
    const faults = [...(await faultsOfManifest(bytes)), ...(await faultsOfTypes(bytes)), ...faultsOfSize(folder)];
    for (const fault of faults) console.error(`${name}: ${fault}`);
    if (faults.length > 0) process.exitCode = 1;
  }
  console.log(`publint, attw and size-limit have checked ${folders.length} packages`);
} finally {
  rmSync(tarballs, { recursive: true });
}

async function faultsOfManifest(tarball: Uint8Array): Promise<string[]> {
  const pack = { tarball: new Uint8Array(tarball).buffer };
  const { messages, pkg } = await publint({ pack, strict: true, level: 'warning' });
  return messages.map((message) => `publint: ${formatMessage(message, pkg, { color: false }) ?? message.code}`);
}

async function faultsOfTypes(tarball: Uint8Array): Promise<string[]> {
  const result = await checkPackage(createPackageFromTarballData(tarball));
  if (!result.types) return ['attw: it has no types'];
  return result.problems.flatMap((problem) =>
    'resolutionKind' in problem && UNSUPPORTED.includes(problem.resolutionKind)
      ? []
      : `attw: ${problemKindInfo[problem.kind].title}: ${JSON.stringify(problem)}`,
  );
}

/** size-limit reads its limits in package.json. */
function faultsOfSize(folder: string): string[] {
  const { status, stdout, stderr } = spawnSync('size-limit', { cwd: folder, encoding: 'utf8' });
  return status === 0 ? [] : [`size-limit:\n${stdout}${stderr}`];
}
