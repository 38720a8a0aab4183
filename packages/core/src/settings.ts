import { describe } from './config.js';
import { ConfigError } from './errors.js';

/** One plain setting. Numbers are finite: what a file cannot hold would come back as another. */
type Setting = string | number | boolean | null | readonly number[];

/** Plain settings of a value that training is given: what two of them are told apart by, with their name. */
export type Settings = Readonly<Record<string, Setting>>;

/** A loss, an optimizer or a schedule as resume and the identity of a trial see it. */
export interface Named {
  /** Lower case, e.g. 'adamw'; one name for one formula. */
  readonly name: string;
  /** Everything else that changes its numbers. Default none. */
  readonly settings?: Settings;
}

/**
 * Checks that a value has what two of its kind are told apart by: a name, and plain settings if any.
 * @param what the option that it was given for, e.g. 'schedule'
 * @throws ConfigError for a bare function, for a missing name and for a setting that a file cannot hold.
 */
export function assertNamed(what: string, value: unknown): asserts value is Named {
  const { name, settings = {} } = Object(value) as { name?: unknown; settings?: unknown };
  if (typeof value !== 'object' || typeof name !== 'string' || name === '') {
    const given = typeof value === 'object' && value !== null ? `one whose name is ${describe(name)}` : describe(value);
    throw new ConfigError(
      `${what} must be an object with a name, which tells it from others when a run is resumed; got ${given}`,
      what,
    );
  }
  if (typeof settings !== 'object' || settings === null) {
    throw new ConfigError(`${what}: the settings of '${name}' must be an object, got ${describe(settings)}`, what);
  }
  for (const [key, setting] of Object.entries(settings)) {
    if (setting === undefined || isPlain(setting)) continue;
    throw new ConfigError(
      `${what}: setting '${key}' of '${name}' must be text, a finite number, a truth value, null or a list of finite numbers, got ${describe(setting)}`,
      what,
    );
  }
}

/** The name and settings of a value alone, as they are written and compared. */
export function plainNamed({ name, settings = {} }: Named): Required<Named> {
  return { name, settings };
}

/** A value in one line, e.g. `sgd (momentum 0.9, nesterov true)`. */
export function describeNamed({ name, settings = {} }: Named): string {
  const listed = Object.entries(settings).map(([key, setting]) => `${key} ${shown(setting)}`);
  return listed.length === 0 ? name : `${name} (${listed.join(', ')})`;
}

/** A setting as JSON has it: what stays the same when it is written and read. */
function shown(setting: Setting | undefined): string {
  return setting === undefined ? 'none' : JSON.stringify(setting);
}

function isPlain(setting: unknown): boolean {
  if (typeof setting === 'number') return Number.isFinite(setting);
  if (Array.isArray(setting)) return setting.every((item) => Number.isFinite(item));
  return setting === null || typeof setting === 'string' || typeof setting === 'boolean';
}
