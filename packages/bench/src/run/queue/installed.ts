import { createRequire } from 'node:module';
import { UnsupportedError } from '@peftjs/core/method';

/** The packages of the queue, with the versions that work; they are optional peers, since most runs need no queue. */
const PACKAGES: Readonly<Record<string, string>> = { bullmq: '5', ioredis: '5' };

/** @throws UnsupportedError if a package that the queue needs is not installed, with the command that installs it. */
export function assertInstalled(packages = PACKAGES): void {
  const missing = Object.keys(packages).filter((name) => !isInstalled(name));
  if (missing.length === 0) return;
  const specs = missing.map((name) => `${name}@${packages[name]}`);
  throw new UnsupportedError(
    `--queue needs ${missing.join(' and ')}, which ${missing.length > 1 ? 'are' : 'is'} not installed: npm install ${specs.join(' ')}`,
    'queue',
  );
}

function isInstalled(name: string): boolean {
  try {
    createRequire(import.meta.url).resolve(name);
    return true;
  } catch {
    return false;
  }
}
