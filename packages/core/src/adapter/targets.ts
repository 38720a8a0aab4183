import * as v from 'valibot';
import { integerFrom } from '../config.js';
import { ConfigError, TargetModuleError } from '../errors.js';
import type { Site, SiteKind } from '../contracts/site.js';

/**
 * Which modules a method acts on, by PEFT's rules: a list holds exact paths or dotted suffixes, a string is a regular
 * expression for the whole path, `all-linear` is every linear module but the head.
 */
export interface TargetConfig {
  /** Default: the model's own table. */
  readonly targetModules: string | readonly string[] | null;
  readonly excludeModules: string | readonly string[] | null;
  /** Layer indices to keep; only with a list of targets. */
  readonly layersToTransform: readonly number[] | null;
  /** Modules trained whole and saved with the adapter; the head is one without being named. */
  readonly modulesToSave: readonly string[] | null;
}

const moduleNames = v.nullish(v.union([v.string(), v.array(v.string())]), null);

/** The schema entries of `TargetConfig`, for a method's own schema. */
export const targetEntries = {
  targetModules: moduleNames,
  excludeModules: moduleNames,
  layersToTransform: v.nullish(v.array(integerFrom(0)), null),
  modulesToSave: v.nullish(v.array(v.string()), null),
};

/** Which sites a configuration matches, and which of its names match none. */
export interface TargetReport {
  readonly matched: readonly Site[];
  readonly unmatchedNames: readonly string[];
}

/**
 * Selects the sites of a configuration.
 * @throws TargetModuleError when nothing matches; it lists the nearest module paths.
 */
export function selectSites(
  sites: readonly Site[],
  config: TargetConfig,
  from: { readonly kinds: readonly SiteKind[]; readonly head: string; readonly defaults: readonly string[] },
): TargetReport {
  const wanted = config.targetModules ?? from.defaults;
  if (config.layersToTransform && typeof wanted === 'string') {
    throw new ConfigError(
      `layersToTransform needs targetModules as a list, got the pattern '${wanted}'`,
      'layersToTransform',
    );
  }
  const saved = config.modulesToSave ?? [];
  const matched = sites.filter(
    (site) =>
      site.path !== from.head &&
      from.kinds.includes(site.kind) &&
      !matches(site, saved) &&
      !(config.excludeModules && matches(site, config.excludeModules)) &&
      matches(site, wanted) &&
      (!config.layersToTransform || config.layersToTransform.includes(site.layer ?? -1)),
  );
  if (matched.length === 0 && from.kinds.length > 0) throw nothingMatches(sites, wanted, from.kinds);
  const names = typeof wanted === 'string' ? [] : wanted;
  return { matched, unmatchedNames: names.filter((name) => !sites.some((site) => matches(site, [name]))) };
}

/** Whether a name is a module's whole path or a dotted suffix of it. */
export function isNamed(path: string, name: string): boolean {
  return path === name || path.endsWith(`.${name}`);
}

/** Whether a site is meant by a name list or a pattern. @throws ConfigError for a broken pattern. */
export function matches(site: Site, wanted: string | readonly string[]): boolean {
  if (typeof wanted !== 'string') {
    return wanted.some((name) => isNamed(site.path, name));
  }
  if (wanted.toLowerCase() === 'all-linear') return site.kind === 'linear' && site.role !== 'head';
  return fullMatch(wanted).test(site.path);
}

/**
 * The value that a pattern table (`rankPattern`, `alphaPattern`) gives a module: the first key that is its whole path or a
 * regular expression for a dotted suffix of it.
 */
export function patternValue(table: Readonly<Record<string, number>>, path: string): number | undefined {
  for (const [pattern, value] of Object.entries(table)) {
    if (path === pattern || fullMatch(`(?:.*\\.)?(?:${pattern})`).test(path)) return value;
  }
  return undefined;
}

function fullMatch(pattern: string): RegExp {
  try {
    return new RegExp(`^(?:${pattern})$`);
  } catch (cause) {
    throw new ConfigError(`'${pattern}' is not a regular expression`, 'targetModules', cause);
  }
}

function nothingMatches(
  sites: readonly Site[],
  wanted: string | readonly string[],
  kinds: readonly SiteKind[],
): TargetModuleError {
  const names = typeof wanted === 'string' ? [wanted] : wanted;
  const nearest = sites
    .filter((site) => kinds.includes(site.kind))
    .map((site) => ({ path: site.path, gap: Math.min(...names.map((name) => suffixDistance(name, site.path))) }))
    .sort((a, b) => a.gap - b.gap)
    .slice(0, 5)
    .map(({ path }) => path);
  const list = names.map((name) => `'${name}'`).join(', ');
  return new TargetModuleError(
    `targetModules ${list} match no ${kinds.join(' or ')} module; the nearest are ${nearest.join(', ')}`,
    'targetModules',
  );
}

/** Edit distance between a name and the end of a path with as many segments. */
function suffixDistance(name: string, path: string): number {
  return editDistance(name, path.split('.').slice(-name.split('.').length).join('.'));
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] as number) + 1, (next[j - 1] as number) + 1, substitution));
    }
    row = next;
  }
  return row[b.length] as number;
}
