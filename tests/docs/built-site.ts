import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { root } from '../workspace/repository.js';

/** A built site. */
interface BuiltSite {
  /** Its folder. */
  readonly site: string;
  /** Removes the folder if it was made for this test. */
  remove(): Promise<void>;
}

/** Returns the site that .ci/check has already built, or builds one. */
export async function builtSite(): Promise<BuiltSite> {
  const built = process.env.PEFTJS_SITE;
  if (built !== undefined) return { site: built, remove: () => Promise.resolve() };
  const site = await mkdtemp(join(tmpdir(), 'peftjs-site-'));
  await promisify(execFile)('npm', ['run', '-s', '-w', 'docs', 'site', '--', '--outDir', site], { cwd: root });
  return { site, remove: () => rm(site, { recursive: true }) };
}
