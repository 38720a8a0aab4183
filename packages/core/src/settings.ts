import { describe } from './config.js';
import { ConfigError } from './errors.js';

/** One plain setting. Numbers are finite, because JSON cannot hold other ones. */
type Setting = string | number | boolean | null | readonly number[];

/** Plain settings that, with the name, distinguish a value from others of its kind. */
type Settings = Readonly<Record<string, Setting>>;

/** A loss, an optimizer or a schedule, identified when a run is resumed or compared. */
export interface Named {
  /** A lower-case name, e.g. 'adamw'; one name per formula. */
  readonly name: string;
  /** Everything else that changes its numbers. Default: none. */
  readonly settings?: Settings;
}

/**
 * Checks that a value has a name, and that its settings, if any, are plain.
 * @param what the option that it was given for, e.g. 'schedule'
 * @throws ConfigError for a bare function, a missing name, or a setting that JSON cannot hold.
 */
export function assertNamed(what: string, value: unknown): asserts value is Named {
  const { name, settings = {} } = Object(value) as { name?: unknown; settings?: unknown };
  if (typeof value !== 'object' || typeof name !== 'string' || name === '') {
    const given = typeof value === 'object' && value !== null ? `one whose name is ${describe(name)}` : describe(value);
    throw new ConfigError(
      `${what} must be an object with a name, which identifies it when a run is resumed; got ${given}`,
      what,
    );
  }
  if (typeof settings !== 'object' || settings === null) {
    throw new ConfigError(`${what}: the settings of '${name}' must be an object, got ${describe(settings)}`, what);
  }
  for (const [key, setting] of Object.entries(settings)) {
    if (setting === undefined || isPlain(setting)) continue;
    throw new ConfigError(
      `${what}: setting '${key}' of '${name}' must be text, a finite number, a boolean, null or a list of finite numbers, got ${describe(setting)}`,
      what,
    );
  }
}

/** Returns only the name and the settings of a value, as they are written and compared. */
export function nameAndSettings({ name, settings = {} }: Named): Required<Named> {
  return { name, settings };
}

/** Formats a value in one line, e.g. `sgd (momentum 0.9, nesterov true)`. */
export function describeNamed({ name, settings = {} }: Named): string {
  const listed = Object.entries(settings).map(([key, setting]) => `${key} ${shown(setting)}`);
  return listed.length === 0 ? name : `${name} (${listed.join(', ')})`;
}

/** Formats a setting as JSON, so that it compares equal after writing and reading. */
function shown(setting: Setting | undefined): string {
  return setting === undefined ? 'none' : JSON.stringify(setting);
}

function isPlain(setting: unknown): boolean {
  if (typeof setting === 'number') return Number.isFinite(setting);
  if (Array.isArray(setting)) return setting.every((item) => Number.isFinite(item));
  return setting === null || typeof setting === 'string' || typeof setting === 'boolean';
}
