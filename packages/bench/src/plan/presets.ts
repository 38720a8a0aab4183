import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from '@peftjs/core';
import { packageRoot } from '../package-root.js';
import type { StudyInput } from './study.js';

/** The studies that come with the package, one data file each. */
const PRESETS = join(packageRoot, 'presets');

/** A study that comes with the package. */
export interface Preset {
  readonly name: string;
  /** What it compares and how long that takes, in a few words. */
  readonly about: string;
  readonly study: StudyInput;
  /** What `--full` lays over the study; null where the study is as large as it gets. */
  readonly full: StudyInput | null;
}

/** Every preset, by name. */
export function presets(): Preset[] {
  const files = readdirSync(PRESETS).filter((file) => file.endsWith('.json'));
  return files.sort().map((file) => presetIn(file.slice(0, -'.json'.length)));
}

/** A preset by name. @throws ConfigError when there is none of that name. */
export function presetNamed(name: string): Preset {
  const all = presets();
  const preset = all.find((each) => each.name === name);
  if (preset) return preset;
  throw new ConfigError(`--preset is '${name}'; expected ${all.map((each) => each.name).join(', ')}`, 'preset');
}

function presetIn(name: string): Preset {
  const {
    about,
    full = null,
    ...study
  } = JSON.parse(readFileSync(join(PRESETS, `${name}.json`), 'utf8')) as StudyInput & {
    readonly about: string;
    readonly full?: StudyInput;
  };
  return { name, about, study, full };
}
