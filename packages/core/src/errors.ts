/**
 * The base of every error that peftjs throws deliberately. The message says what was expected, what was given and what
 * to do.
 */
export class PeftError extends Error {
  /** A stable code, e.g. 'PEFT_CONFIG'. */
  readonly code: string;
  /** The field, tensor, module or file at fault. */
  readonly path: string | undefined;

  constructor(code: string, message: string, at?: { path?: string | undefined; cause?: unknown }) {
    super(message, at?.cause === undefined ? undefined : { cause: at.cause });
    this.name = new.target.name;
    this.code = code;
    this.path = at?.path;
  }
}

/** An error with a code of its own. */
class Failure extends PeftError {
  constructor(message: string, path?: string, cause?: unknown) {
    super('PEFT', message, { path, cause });
  }
}

/** A configuration field has an impossible value; `path` is the field. */
export class ConfigError extends Failure {
  override readonly code = 'PEFT_CONFIG';
}

/**
 * `targetModules` matches nothing, or a module that the method cannot adapt, or other options leave out all that it
 * matches.
 */
export class TargetModuleError extends Failure {
  override readonly code = 'PEFT_TARGET_MODULES';
}

/** A tensor has the wrong shape or type. */
export class ShapeError extends Failure {
  override readonly code = 'PEFT_SHAPE';
}

/** An adapter, model or training checkpoint is missing, broken or made for something else. */
export class CheckpointError extends Failure {
  override readonly code = 'PEFT_CHECKPOINT';
}

/** A data file is missing, empty or malformed. */
export class DataError extends Failure {
  override readonly code = 'PEFT_DATA';
}

/** The requested combination is not supported. */
export class UnsupportedError extends Failure {
  override readonly code = 'PEFT_UNSUPPORTED';
}

/** Training cannot continue: the loss is not finite, or a controller broke its contract. */
export class TrainingError extends Failure {
  override readonly code = 'PEFT_TRAINING';
}

/** An executor or a backend failed, or cannot do what was requested. */
export class EngineError extends Failure {
  override readonly code = 'PEFT_ENGINE';
}

/** The number of names from a file that a message lists, and the most characters of each. */
const NAMED = 3;
const NAME_LENGTH = 100;

/**
 * Lists names that a file gives, for a message, which must not become as long as the file: `a, b, c and 2,997 more`.
 * @param none what to say if there are none
 */
export function firstNames(names: readonly string[], none = 'none'): string {
  const first = names
    .slice(0, NAMED)
    .map((name) => (name.length > NAME_LENGTH ? `${name.slice(0, NAME_LENGTH)}..` : name))
    .join(', ');
  const rest = names.length - NAMED;
  return rest > 0 ? `${first} and ${rest.toLocaleString('en-US')} more` : first || none;
}

/** The number of paths that an error lists. */
const LISTED = 5;

/** Returns the module paths whose ends are closest to one of the names, by edit distance. */
export function nearestPaths(paths: readonly string[], names: readonly string[]): string[] {
  return paths
    .map((path) => ({ path, gap: Math.min(...names.map((name) => suffixDistance(name, path))) }))
    .sort((a, b) => a.gap - b.gap)
    .slice(0, LISTED)
    .map(({ path }) => path);
}

/**
 * Returns a suggestion to append after a rejected name, e.g. ` (did you mean 'lora'?)`, or nothing where no known name
 * is close. Case, hyphens and underscores are ignored, and one typo is allowed per three letters.
 */
export function didYouMean(name: unknown, known: readonly string[]): string {
  if (typeof name !== 'string') return '';
  const asked = letters(name);
  const [best] = known
    .map((candidate) => ({ candidate, gap: editDistance(asked, letters(candidate)) }))
    .filter(({ candidate, gap }) => gap <= Math.floor(Math.max(asked.length, candidate.length) / 3))
    .sort((a, b) => a.gap - b.gap);
  return best ? ` (did you mean '${best.candidate}'?)` : '';
}

/** Normalises a name for comparison. Very long names are cut, to bound the cost. */
function letters(name: string): string {
  return name.slice(0, 100).toLowerCase().replace(/[-_]/g, '');
}

/** Returns the edit distance between a name and the end of a path with as many segments. */
function suffixDistance(name: string, path: string): number {
  return editDistance(name, path.split('.').slice(-name.split('.').length).join('.'));
}

/**
 * Returns the number of letters to insert, delete, replace or swap with their neighbour to turn one name into the
 * other.
 */
function editDistance(a: string, b: string): number {
  let [beforeLast, last]: number[][] = [[], Array.from({ length: b.length + 1 }, (_, column) => column)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = at(last, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swapped = isSwapped ? at(beforeLast, j - 2) + 1 : Infinity;
      row.push(Math.min(at(last, j) + 1, at(row, j - 1) + 1, substituted, swapped));
    }
    [beforeLast, last] = [last, row];
  }
  return at(last, b.length);
}

function at(row: readonly number[] | undefined, column: number): number {
  return row?.[column] ?? Infinity;
}
