import * as v from 'valibot';
import { integerFrom, warnOnce } from '../config.js';
import type { TargetConfig } from '../contracts/method.js';
import { ConfigError, firstNames, nearestPaths, TargetModuleError } from '../errors.js';
import type { Site, SiteKind } from '../contracts/site.js';
import { isInHead } from '../head.js';

/** The `targetModules` that matches every module. A method whose rule picks among all modules sets it. */
export const EVERY_MODULE = '.*';

const moduleNames = v.nullish(v.union([v.string(), v.array(v.string())]), null);

/** The fields of `TargetConfig` as schema entries, for a method's own schema. */
export const targetEntries = {
  targetModules: moduleNames,
  excludeModules: moduleNames,
  layersToTransform: v.nullish(v.union([integerFrom(0), v.array(integerFrom(0))]), null),
  layersPattern: moduleNames,
  modulesToSave: v.nullish(v.array(v.string()), null),
};

/**
 * The configuration of a method with these schema entries, `targetEntries` among them. The documentation of an option
 * is that of its entry.
 */
export type MethodOptions<Entries extends v.ObjectEntries> = TargetConfig & {
  readonly [K in keyof Entries as Exclude<K, keyof TargetConfig>]: v.InferOutput<Entries[K]>;
};

const tokens = v.array(integerFrom(0));

/** Schema entries for `trainableTokenIndices` and `ensureWeightTying`, for the methods that have them in PEFT. */
export const tokenEntries = {
  trainableTokenIndices: v.nullish(v.union([tokens, v.record(v.string(), tokens)]), null),
  ensureWeightTying: v.optional(v.boolean(), false),
};

/** The modules that a configuration matches, and its names that match none. */
export interface TargetReport {
  /** The modules to adapt. */
  readonly matched: readonly Site[];
  /** Names in `targetModules` that match no module the method can adapt. */
  readonly unmatchedNames: readonly string[];
  /**
   * Names in other fields that match nothing, by field: `excludeModules`, and tables by module such as `rankPattern`.
   */
  readonly unmatchedElsewhere: Readonly<Record<string, readonly string[]>>;
}

/** The parts of a method and a model that targets depend on. */
export interface Selectable {
  /** The kinds of modules that the method adapts. */
  readonly kinds: readonly SiteKind[];
  /** The modules of the head, as in the model. */
  readonly head: readonly string[];
  /** The targets for a configuration that names none. */
  readonly defaults: readonly string[];
}

/**
 * Selects the modules that a configuration targets.
 * @throws ConfigError when layers are given together with a pattern, when `layersPattern` is given alone, or when there
 * is nothing to target.
 * @throws TargetModuleError when nothing matches, with the nearest module paths, and when other options leave out
 * everything that does.
 */
export function selectSites(sites: readonly Site[], config: TargetConfig, from: Selectable): TargetReport {
  const wanted = config.targetModules ?? from.defaults;
  if (from.kinds.length > 0) checkTargets(config, wanted);
  const adaptable = sites.filter(({ path, kind }) => !isInHead(from, path) && from.kinds.includes(kind));
  const candidates = adaptable.filter((site) => matches(site, wanted));
  const rules = Object.entries<(site: Site) => boolean>({
    layersToTransform: (site) => wanted.includes(site.path) || isChosenLayer(site, config),
    excludeModules: (site) => !config.excludeModules || !matches(site, config.excludeModules),
    modulesToSave: ({ path }) => !config.modulesToSave?.some((name) => isModuleToSave(path, name)),
  });
  const matched = candidates.filter((site) => rules.every(([, keeps]) => keeps(site)));
  if (matched.length === 0 && from.kinds.length > 0) {
    const [example] = candidates;
    if (!example) throw nothingMatches(adaptable, wanted, from);
    const fields = rules.filter(([, keeps]) => !candidates.every(keeps)).map(([field]) => field);
    throw new TargetModuleError(
      `none of the ${candidates.length} modules that targetModules match, e.g. ${example.path}, is left: change ${fields.join(' or ')}`,
      fields[0],
    );
  }
  const named = typeof config.targetModules === 'string' || from.kinds.length === 0 ? [] : config.targetModules;
  return {
    matched,
    unmatchedNames: unmatched(adaptable, named ?? []),
    unmatchedElsewhere: unmatchedElsewhere(sites, matched, config),
  };
}

/** Narrows a configuration that matches `sites` to the kept ones, by listing their paths. */
export function narrowTargets<C extends TargetConfig>(kept: readonly Site[], config: C, sites: readonly Site[]): C {
  if (kept.length === sites.length) return config;
  return { ...config, targetModules: kept.map(({ path }) => path), layersToTransform: null, layersPattern: null };
}

/** Returns whether a name is a module's full path or a dotted suffix of it. */
function isNamed(path: string, name: string): boolean {
  return path === name || path.endsWith(`.${name}`);
}

/**
 * Returns whether a name in `modulesToSave` covers a module, by PEFT's rule: the path of the module, or of one it is
 * part of, ends in the name, even in the middle of a word. So 'norm' covers every norm of a Llama, and 'classifier'
 * also 'pre_classifier'.
 */
export function isModuleToSave(path: string, name: string): boolean {
  return `${path}.`.includes(`${name}.`);
}

/** Returns whether a list of names or a pattern matches a module. @throws ConfigError for a broken pattern. */
export function matches(site: Site, wanted: string | readonly string[]): boolean {
  if (typeof wanted !== 'string') {
    return wanted.some((name) => isNamed(site.path, name));
  }
  if (wanted.toLowerCase() === 'all-linear') return site.kind === 'linear' && site.role !== 'head';
  return fullMatch(wanted).test(site.path);
}

/**
 * Returns the value that a pattern table (`rankPattern`, `alphaPattern`) gives a module: that of the first key that is
 * its full path or a regular expression for a dotted suffix of it.
 */
export function patternValue(table: Readonly<Record<string, number>>, path: string): number | undefined {
  return Object.entries(table).find(([pattern]) => isPattern(pattern, path))?.[1];
}

/**
 * Returns the layer index in a path, by PEFT's rule: the number after a name of `pattern`, or without a pattern the
 * first number after a dotted name. Undefined where there is none.
 */
function layerIndex(path: string, pattern: string | readonly string[] | null = null): number | undefined {
  const names = listOf(pattern);
  const number = '\\.(\\d+)\\..*';
  const rules = names.map((name) => fullMatch(name, '(?:.*?\\.)?', number));
  for (const rule of names.length > 0 ? rules : [fullMatch('.*?\\.[^.]*', '', number)]) {
    const found = rule.exec(path)?.at(-1);
    if (found !== undefined) return Number(found);
  }
  return undefined;
}

function isPattern(pattern: string, path: string): boolean {
  return path === pattern || fullMatch(pattern, '(?:.*\\.)?').test(path);
}

function isChosenLayer({ path, layer }: Site, { layersToTransform, layersPattern }: TargetConfig): boolean {
  if (layersToTransform === null) return true;
  const chosen = listOf(layersToTransform);
  const index = layerIndex(path, layersPattern) ?? (listOf(layersPattern).length === 0 ? layer : undefined);
  return chosen.length === 0 || (index !== undefined && chosen.includes(index));
}

function checkTargets(config: TargetConfig, wanted: string | readonly string[]): void {
  for (const field of ['layersToTransform', 'layersPattern'] as const) {
    if (config[field] != null && typeof wanted === 'string' && wanted !== EVERY_MODULE) {
      throw new ConfigError(`${field} needs targetModules as a list, got the pattern '${wanted}'`, field);
    }
  }
  if (listOf(config.layersPattern).length > 0 && config.layersToTransform === null) {
    throw new ConfigError('layersPattern needs layersToTransform: give both', 'layersPattern');
  }
  if (wanted.length === 0) {
    const problem = config.targetModules == null ? 'the model has no default' : 'it is empty';
    throw new ConfigError(`targetModules must name modules: ${problem}`, 'targetModules');
  }
}

/**
 * Compiles a pattern that must match everything between `before` and `after`. It accepts Python's leading flags, named
 * groups and comments.
 */
function fullMatch(pattern: string, before = '', after = ''): RegExp {
  const [flags = ''] = /^\(\?[aimsu]+\)/.exec(pattern) ?? [];
  const body = pattern
    .slice(flags.length)
    .replaceAll('(?P<', '(?<')
    .replace(/\(\?P=(\w+)\)/g, '\\k<$1>')
    .replace(/\(\?#(?:[^()]|\((?!\?#))*\)/g, '');
  try {
    return new RegExp(`^${before}(?:${body})${after}$`, flags.includes('i') ? 'i' : '');
  } catch (cause) {
    throw new ConfigError(`'${pattern}' is not a regular expression`, undefined, cause);
  }
}

function unmatched(sites: readonly Site[], names: readonly string[]): string[] {
  return names.filter((name) => !sites.some(({ path }) => isNamed(path, name)));
}

function unmatchedElsewhere(
  sites: readonly Site[],
  matched: readonly Site[],
  config: TargetConfig,
): TargetReport['unmatchedElsewhere'] {
  const { excludeModules } = config;
  const excludes =
    typeof excludeModules === 'string'
      ? [excludeModules].filter((pattern) => !sites.some((site) => matches(site, pattern)))
      : unmatched(sites, excludeModules ?? []);
  const tables = Object.entries(config).filter(([field]) => field.endsWith('Pattern') && field !== 'layersPattern');
  const patterns = tables.map(([field, table]) => {
    const keys = Object.keys((table ?? {}) as object);
    return [field, keys.filter((key) => !matched.some(({ path }) => isPattern(key, path)))] as const;
  });
  return Object.fromEntries(
    [['excludeModules', excludes] as const, ...patterns].filter(([, names]) => names.length > 0),
  );
}

/** Returns a list of one, several or no items. */
function listOf<T extends string | number>(items: T | readonly T[] | null | undefined): readonly T[] {
  if (items == null) return [];
  return typeof items === 'object' ? items : [items];
}

function nothingMatches(
  adaptable: readonly Site[],
  wanted: string | readonly string[],
  { kinds, head }: Selectable,
): TargetModuleError {
  const names = listOf(wanted);
  const nearest = nearestPaths(
    adaptable.map(({ path }) => path),
    names,
  );
  const list = firstNames(names.map((name) => `'${name}'`));
  const where = head.length > 0 ? ' outside the head' : '';
  return new TargetModuleError(
    `targetModules ${list} match no ${kinds.join(' or ')} module${where}; the nearest are ${nearest.join(', ')}`,
    'targetModules',
  );
}

/**
 * Reports names in a configuration that match nothing, with the nearest module paths: warns once, or throws.
 * @throws TargetModuleError in strict mode; its `path` is the first field with such a name.
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
  const list = firstNames(names.map((name) => `'${name}'`));
  const verb = names.length === 1 ? 'matches' : 'match';
  const areThere = names.every((name) => paths.some((path) => isNamed(path, name)));
  const rest = areThere ? ' that is adapted' : `; the nearest are ${nearestPaths(paths, names).join(', ')}`;
  return `${field}: ${list} ${verb} no module${rest}`;
}
