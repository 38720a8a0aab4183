import { describe } from '../config.js';
import type { AdapterFile } from '../contracts/method.js';
import { CheckpointError } from '../errors.js';
import { moduleRank, rankPatterns, type ModuleRank, type RankPatterns } from '../ranks/budget.js';
import type { HostTensors } from '../tensors.js';
import { adaptedPaths, assertNoOtherTensors, moduleTable } from './lora-file.js';

/*
 * What the file formats of methods have in common: fields that are options by another name, tensors by a module's path
 * and a suffix, and ranks and alphas that differ between modules.
 */

/** PEFT's fields on disk, and the options that they hold. */
type Fields<C> = Readonly<Record<string, keyof C & string>>;

/** Returns the fields of a configuration file that hold these options. */
export function fieldsOf<C extends object>(config: C, fields: Fields<C>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).map(([field, option]) => [field, config[option]]));
}

/** Returns the options that a file's fields hold, unchecked: they are validated with the user's own. */
export function optionsIn<C extends object>(config: AdapterFile['config'], fields: Fields<C>): Partial<C> {
  const present = Object.entries(fields).filter(([field]) => config[field] != null);
  return Object.fromEntries(present.map(([field, option]) => [option, config[field]])) as Partial<C>;
}

/**
 * Returns the modules that a file adapts: the paths of its tensors, whose names end in one of these suffixes.
 * @throws CheckpointError when it has none.
 * @throws UnsupportedError when it holds other tensors.
 */
export function adaptedModules(tensors: HostTensors, suffixes: readonly string[]): string[] {
  const paths = adaptedPaths(tensors, suffixes);
  const [needed = ''] = suffixes;
  if (paths.length === 0) throw new CheckpointError(`the file holds no tensor '<module>${needed}'`, needed);
  assertNoOtherTensors(tensors, paths, suffixes);
  return paths;
}

/** Returns a file's fields of ranks and alphas, for a method whose alpha is `alpha`. */
export function rankFields(config: ModuleRank & RankPatterns, paths: readonly string[]): Record<string, unknown> {
  const modules = Object.fromEntries(paths.map((path) => [path, moduleRank(config, path)]));
  const { rankPattern, alphaPattern } = rankPatterns(modules, config);
  return { r: config.r, alpha: config.alpha, rank_pattern: rankPattern, alpha_pattern: alphaPattern };
}

/**
 * Reads these fields for some modules.
 * @param held the ranks that the file's tensors have; without it, the file must name a rank and an alpha
 * @throws CheckpointError naming the field that is not a number.
 */
export function ranksIn(
  config: AdapterFile['config'],
  paths: readonly string[],
  held?: (path: string) => number,
): ModuleRank & RankPatterns {
  if (!held) for (const field of ['r', 'alpha']) numberIn(config, field);
  const [ranks, alphas] = [moduleTable(config, 'rank_pattern'), moduleTable(config, 'alpha_pattern')];
  const modules: Record<string, ModuleRank> = {};
  for (const path of paths) {
    const r = held?.(path) ?? ranks(path) ?? numberIn(config, 'r');
    modules[path] = { r, alpha: alphas(path) ?? numberIn(config, 'alpha') };
  }
  const first = modules[paths[0] as string] as ModuleRank;
  const usual = {
    r: typeof config.r === 'number' ? config.r : first.r,
    alpha: typeof config.alpha === 'number' ? config.alpha : first.alpha,
  };
  return { ...usual, ...rankPatterns(modules, usual) };
}

function numberIn(config: AdapterFile['config'], field: string): number {
  const value = config[field];
  if (typeof value === 'number') return value;
  throw new CheckpointError(`${field} is ${describe(value)}; expected a number`, field);
}
