import { warnOnce } from '../config.js';
import { TargetModuleError } from '../errors.js';
import type { Site } from '../contracts/site.js';
import { nearestPaths } from '../nearest.js';
import type { TargetReport } from './targets.js';

/**
 * Tells of the names in a configuration that match nothing, with the nearest module paths: warns once, or throws.
 * @throws TargetModuleError in strict mode; its `path` is the first field at fault.
 */
export function reportTargets(
  report: TargetReport,
  sites: readonly Site[],
  { strict }: { readonly strict: boolean },
): void {
  const fields = Object.entries({ targetModules: report.unmatchedNames, ...report.unmatchedElsewhere });
  const missed = fields.filter(([, names]) => names.length > 0);
  const [first] = missed;
  if (!first) return;
  const paths = sites.map(({ path }) => path);
  const message = missed.map(([field, names]) => describeMissed(field, names, paths)).join('; ');
  if (strict) throw new TargetModuleError(message, first[0]);
  warnOnce(message);
}

function describeMissed(field: string, names: readonly string[], paths: readonly string[]): string {
  const list = names.map((name) => `'${name}'`).join(', ');
  const verb = names.length === 1 ? 'matches' : 'match';
  return `${field}: ${list} ${verb} no module; the nearest are ${nearestPaths(paths, names).join(', ')}`;
}
