import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { root } from '../workspace/repository.js';

/** Returns the folder of the site that .ci/check has already built, or builds one into `site`. */
export async function builtSite(site: string): Promise<string> {
  const built = process.env.PEFTJS_SITE;
  if (built !== undefined) return built;
  await promisify(execFile)('npm', ['run', '-s', '-w', 'docs', 'site', '--', '--outDir', site], { cwd: root });
  return site;
}
