import { CheckpointError, incompleteSave, type Task } from '@peftjs/core/method';
import type { Architecture } from '../architecture.js';
import type { ModelFolder } from '../folder.js';
import { field, shown } from '../json.js';

/** A `model_type` of transformers. One of your own is passed to `fromPretrained` as `modelTypes`. */
export interface ModelType {
  /** What config.json calls it. */
  readonly name: string;
  /** The classes whose checkpoints hold the network, as messages name them. */
  readonly savedBy: string;
  /** What every key of the network begins with, but in a checkpoint of the bare network. */
  readonly prefix: string;
  /**
   * The network that a config.json describes, with its head for a task.
   * @throws CheckpointError for a setting that is impossible or not computed here.
   * @throws UnsupportedError for a task that it has no head for.
   */
  architecture(config: ConfigFile, task: Task): Architecture;
}

/** The file that says what a folder of transformers holds. */
export const CONFIG_FILE = 'config.json';

/** A few lines, and a line for each label. */
const CONFIG_BYTES = 16 * 2 ** 20;

/** More rows or columns than any network has. */
const LARGEST_SIZE = 2 ** 24;

/** A parsed config.json. */
export interface ConfigFile {
  /** Its path, as messages show it. */
  readonly file: string;
  readonly settings: unknown;
}

/** @throws CheckpointError when it is missing, too large or no JSON, or when a save into the folder was cut short. */
export async function readConfig(folder: ModelFolder): Promise<ConfigFile> {
  const file = folder.pathOf(CONFIG_FILE);
  const settings = await folder.json(CONFIG_FILE, CONFIG_BYTES);
  const incomplete = incompleteSave(settings);
  if (incomplete !== undefined) throw new CheckpointError(`${file}: ${incomplete}`, file);
  return { file, settings };
}

/** Bounds of an integer. */
interface Bounds {
  readonly most?: number;
  readonly divides?: number;
}

/** A setting that counts something; one without fallback must be there. @throws CheckpointError unless it is a positive integer within bounds. */
export function positiveInteger(config: ConfigFile, name: string, fallback?: number, bounds: Bounds = {}): number {
  return integer(config, name, fallback, { least: 1, ...bounds });
}

/** A setting that counts something of which there may be none. @throws CheckpointError unless it is an integer within bounds. */
export function wholeNumber(config: ConfigFile, name: string, fallback: number, bounds: Bounds = {}): number {
  return integer(config, name, fallback, { least: 0, ...bounds });
}

function integer(
  { file, settings }: ConfigFile,
  name: string,
  fallback: number | undefined,
  { least, most = LARGEST_SIZE, divides }: Bounds & { readonly least: number },
): number {
  const value = field(settings, name) ?? fallback;
  const fits = Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
  if (fits && (divides === undefined || divides % (value as number) === 0)) return value as number;
  const divisor = divides === undefined ? '' : ` that divides ${divides}`;
  throw new CheckpointError(
    `${file}: '${name}' must be an integer from ${least} to ${most}${divisor}, got ${shown(value)}`,
    file,
  );
}

/** A setting that is on or off. @throws CheckpointError unless it is one. */
export function boolean({ file, settings }: ConfigFile, name: string, fallback: boolean): boolean {
  const value = field(settings, name) ?? fallback;
  if (typeof value === 'boolean') return value;
  throw new CheckpointError(`${file}: '${name}' must be true or false, got ${shown(value)}`, file);
}

/** A setting above 0; one without fallback must be there. @throws CheckpointError unless it is one. */
export function positiveNumber({ file, settings }: ConfigFile, name: string, fallback?: number): number {
  const value = field(settings, name) ?? fallback;
  if (typeof value === 'number' && value > 0 && Number.isFinite(value)) return value;
  throw new CheckpointError(`${file}: '${name}' must be a number above 0, got ${shown(value)}`, file);
}

/**
 * Refuses a setting that asks for another network than the one that is computed here.
 * @param fallback what it is where config.json leaves it out
 * @throws CheckpointError naming it.
 */
export function refuseUnless(
  { file, settings }: ConfigFile,
  name: string,
  expected: unknown,
  fallback: unknown = expected,
): void {
  const value = field(settings, name) ?? fallback;
  if (value === expected) return;
  throw new CheckpointError(
    `${file}: '${name}' must be ${shown(expected)}, got ${shown(value)}, which is not supported`,
    file,
  );
}
