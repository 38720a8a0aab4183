import { describe } from '../config.js';
import type { AdapterContents, AdapterFile, PeftMethod, TargetConfig } from '../contracts/method.js';
import { CheckpointError, ConfigError } from '../errors.js';
import { moduleRank, rankPatterns, type ModuleRank, type RankPatterns } from '../ranks/budget.js';
import { mapValues, tensorAt, transposed, type HostTensors } from '../tensors.js';
import { adaptedModules, assertFeatures, matrixOf, moduleTable, vectorOf } from './lora-file.js';

/*
 * What the file formats of methods have in common: tensors by a module's path and a suffix, fields that are options by
 * another name, and ranks and alphas that differ between modules.
 */

/**
 * The tensors of a module on disk, by their names in its layer: the suffix after the module's path, and the names of
 * one or two axes. `in` and `out` are the module's features; an axis has one size in all tensors of a module, and one
 * that is a number has that size. Matrices are transposed on disk, where torch's orientation is [out, in].
 */
export type ModuleTensors = Readonly<Record<string, readonly [suffix: string, ...axes: [string] | [string, string]]>>;

/** PEFT's fields on disk, and the options that they hold. */
type Fields<C> = Readonly<Record<string, keyof C & string>>;

/** The format of a method's files. */
export interface FileFormat<C extends TargetConfig> {
  /** The `peft_type`. */
  readonly peftType: string;
  /** The tensors of every module. */
  readonly tensors: ModuleTensors;
  /** Whether modules may lack some of these tensors. Default false. */
  readonly partial?: boolean;
  /** The fields that hold options. Default: none. */
  readonly fields?: Fields<C>;
  /**
   * Whether modules have ranks and alphas, in `r`, `alpha`, `rank_pattern` and `alpha_pattern`, and what a rank is read
   * from: the size of the axis `r` of a module's tensors, or these fields. Only for a method with the options `r`,
   * `alpha`, `rankPattern` and `alphaPattern`. Default: no ranks.
   */
  readonly ranks?: C extends ModuleRank & RankPatterns ? 'tensors' | 'fields' : never;
  /** Other fields that PEFT reads, with their values. Default: none. */
  readonly others?: AdapterFile['config'];
}

/**
 * Returns the file functions of a method whose adapters consist of these tensors, and that has this one format. They
 * throw a ConfigError for `ranks` of a method without the options of ranks.
 */
export function fileFormat<C extends TargetConfig>({
  peftType,
  tensors: known,
  partial = false,
  fields = {},
  ranks,
  others,
}: FileFormat<C>): Pick<PeftMethod<C>, 'peftTypes' | 'toFile' | 'fromFile'> {
  return {
    peftTypes: [peftType],
    toFile(adapter) {
      const { layers, config } = adapter;
      const paths = Object.keys(layers);
      const ranked = ranks && rankFields(rankOptions(config), paths);
      const own = { ...ranked, ...fieldsOf(config, fields), target_modules: paths };
      return { config: { peft_type: peftType, ...own, ...others }, tensors: writtenTensors(adapter, known) };
    },
    fromFile(file) {
      const { config } = file;
      const { targetModules, values, sizes } = readTensors(file, known, () => partial);
      const held = ranks === 'tensors' ? (path: string) => tensorAt(tensorAt(sizes, path), 'r') : undefined;
      const ranked = ranks && ranksIn(config, targetModules, held);
      return { config: { ...optionsIn(config, fields), ...ranked, targetModules }, values };
    },
  };
}

/** Returns the tensors of an adapter by their names on disk. */
export function writtenTensors(
  { layers, values }: Pick<AdapterContents, 'layers' | 'values'>,
  known: ModuleTensors,
): HostTensors {
  const tensors: HostTensors = {};
  for (const [path, { params, state = {} }] of Object.entries(layers)) {
    for (const [name, [suffix, ...axes]] of Object.entries(known)) {
      if (!(name in params || name in state)) continue;
      const value = tensorAt(values, `${path}.${name}`);
      tensors[path + suffix] = axes.length === 2 ? transposed(value) : value;
    }
  }
  return tensors;
}

/** The modules in a file. */
export interface ReadTensors {
  /** The paths of the modules. */
  readonly targetModules: string[];
  /** Their tensors, by `<path>.<name>`. */
  readonly values: HostTensors;
  /** The sizes of their axes, by path and by the axis' name. */
  readonly sizes: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/**
 * Reads the tensors of a file's modules.
 * @param isOptional returns whether a module may lack a tensor
 * @throws CheckpointError naming a tensor that is missing or does not fit the others or the model.
 * @throws UnsupportedError when the file holds other tensors.
 */
export function readTensors(
  file: AdapterFile,
  known: ModuleTensors,
  isOptional: (path: string, name: string) => boolean = () => false,
): ReadTensors {
  const { tensors } = file;
  const suffixes = Object.values(known).map(([suffix]) => suffix);
  const values: HostTensors = {};
  const sizes: Record<string, Record<string, number>> = {};
  const targetModules = adaptedModules(tensors, suffixes);
  for (const path of targetModules) {
    const own = (sizes[path] = {} as Record<string, number>);
    for (const [name, [suffix, ...axes]] of Object.entries(known)) {
      const key = path + suffix;
      if (!(key in tensors) && isOptional(path, name)) continue;
      const tensor = axes.length === 2 ? matrixOf(tensors, key) : vectorOf(tensors, key);
      axes.forEach((axis, at) => (own[axis] ??= Number(axis) || (tensor.shape[at] as number)));
      const expected = axes.map((axis) => own[axis]).join(', ');
      if (tensor.shape.join(', ') !== expected) {
        throw new CheckpointError(`'${key}' is [${tensor.shape.join(', ')}]; the others need [${expected}]`, key);
      }
      values[`${path}.${name}`] = axes.length === 2 ? transposed(tensor) : tensor;
    }
    assertFeatures(file, path, { inFeatures: own.in, outFeatures: own.out });
  }
  return { targetModules, values, sizes };
}

/** Returns the fields of a configuration file that hold these options. */
export function fieldsOf<C extends object>(config: C, fields: Fields<C>): Record<string, unknown> {
  return mapValues(fields, (option) => config[option]);
}

/** Returns the options that a file's fields hold, unchecked: they are validated with the user's own. */
export function optionsIn<C extends object>(config: AdapterFile['config'], fields: Fields<C>): Partial<C> {
  const present = Object.entries(fields).filter(([field]) => config[field] != null);
  return Object.fromEntries(present.map(([field, option]) => [option, config[field]])) as Partial<C>;
}

/** Returns a configuration with the options of ranks. @throws ConfigError naming one that it lacks. */
function rankOptions(config: object): ModuleRank & RankPatterns {
  const missing = RANK_OPTIONS.find((name) => (config as Partial<ModuleRank & RankPatterns>)[name] === undefined);
  if (missing === undefined) return config as ModuleRank & RankPatterns;
  throw new ConfigError(
    `fileFormat: 'ranks' needs the option '${missing}', which the method does not have: give it ${RANK_OPTIONS.join(', ')}, or leave 'ranks' out`,
    missing,
  );
}

const RANK_OPTIONS = ['r', 'alpha', 'rankPattern', 'alphaPattern'] as const;

/** Returns a file's fields of ranks and alphas. */
function rankFields(config: ModuleRank & RankPatterns, paths: readonly string[]): Record<string, unknown> {
  const modules = Object.fromEntries(paths.map((path) => [path, moduleRank(config, path)]));
  const { rankPattern, alphaPattern } = rankPatterns(modules, config);
  return { r: config.r, alpha: config.alpha, rank_pattern: rankPattern, alpha_pattern: alphaPattern };
}

/**
 * Reads these fields for some modules.
 * @param held the ranks that the file's tensors have; without it, the file must name a rank and an alpha
 * @throws CheckpointError naming the field that is not a number.
 */
function ranksIn(
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
