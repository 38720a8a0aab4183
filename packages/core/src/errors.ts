/** Every error that peftjs raises on purpose. `code` is stable; the message says what was expected, what came, what to do. */
export class PeftError extends Error {
  readonly code: string;
  /** The field, tensor, module or file at fault. */
  readonly path: string | undefined;

  constructor(code: string, message: string, at: { path?: string | undefined; cause?: unknown } = {}) {
    super(message, at.cause === undefined ? undefined : { cause: at.cause });
    this.name = new.target.name;
    this.code = code;
    this.path = at.path;
  }
}

/** A configuration field has an impossible value; `path` is the field. */
export class ConfigError extends PeftError {
  constructor(message: string, path?: string, cause?: unknown) {
    super('PEFT_CONFIG', message, { path, cause });
  }
}

/** `targetModules` matches nothing, or something that the method cannot adapt. */
export class TargetModuleError extends PeftError {
  constructor(message: string, path?: string) {
    super('PEFT_TARGET_MODULES', message, { path });
  }
}

/** A tensor has another shape or type than its place asks for. */
export class ShapeError extends PeftError {
  constructor(message: string, path?: string) {
    super('PEFT_SHAPE', message, { path });
  }
}

/** An adapter, model or training checkpoint is missing, broken or made for something else. */
export class CheckpointError extends PeftError {
  constructor(message: string, path?: string, cause?: unknown) {
    super('PEFT_CHECKPOINT', message, { path, cause });
  }
}

/** A data file is missing, empty or malformed. */
export class DataError extends PeftError {
  constructor(message: string, path?: string, cause?: unknown) {
    super('PEFT_DATA', message, { path, cause });
  }
}

/** The combination asked for does not exist. */
export class UnsupportedError extends PeftError {
  constructor(message: string, path?: string, cause?: unknown) {
    super('PEFT_UNSUPPORTED', message, { path, cause });
  }
}

/** Training cannot go on: the loss is not finite, or the controller broke its promise. */
export class TrainingError extends PeftError {
  constructor(message: string, path?: string, cause?: unknown) {
    super('PEFT_TRAINING', message, { path, cause });
  }
}

/** An executor or a backend failed, or cannot do what it was asked. */
export class EngineError extends PeftError {
  constructor(message: string, path?: string, cause?: unknown) {
    super('PEFT_ENGINE', message, { path, cause });
  }
}

/** How many paths an error lists. */
const LISTED = 5;

/** The module paths whose ends are closest to one of the names, by edit distance. */
export function nearestPaths(paths: readonly string[], names: readonly string[]): string[] {
  return paths
    .map((path) => ({ path, gap: Math.min(...names.map((name) => suffixDistance(name, path))) }))
    .sort((a, b) => a.gap - b.gap)
    .slice(0, LISTED)
    .map(({ path }) => path);
}

/**
 * What an error adds after a name that it refuses: ` (did you mean 'lora'?)`, or nothing where no known name is close. Case,
 * hyphens and underscores do not count, and one slip is allowed for every three letters.
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

/** What a typist means; a name that is longer than any known one is not compared in full. */
function letters(name: string): string {
  return name.slice(0, 100).toLowerCase().replace(/[-_]/g, '');
}

/** Edit distance between a name and the end of a path with as many segments. */
function suffixDistance(name: string, path: string): number {
  return editDistance(name, path.split('.').slice(-name.split('.').length).join('.'));
}

/** Letters to insert, delete or replace, or neighbours to swap, between two names. */
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
