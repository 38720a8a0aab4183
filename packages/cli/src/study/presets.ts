import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from '@peftjs/core/method';
import { didYouMean, type WeightDtype } from '@peftjs/core/model';
import { packageRoot } from '../registry/packages.js';
import type { StudyInput } from './study.js';

/** The folder of built-in studies, one JSON file each. */
const PRESETS = join(packageRoot, 'presets');

/** A built-in study. */
export interface Preset {
  /** The name of the preset: its file name without `.json`. */
  readonly name: string;
  /** What it compares and how long that takes, in a few words. */
  readonly about: string;
  /** The study. */
  readonly study: StudyInput;
  /** The changes that `--full` makes to the study; null if there is no full size. */
  readonly full: StudyInput | null;
  /** Whether its tasks come from the user's `--data` folder. */
  readonly needsData: boolean;
  /** The format of frozen weights, unless a flag gives another. Default `fp32`. */
  readonly dtype: WeightDtype;
}

/** Returns every preset, sorted by name. */
export function presets(): Preset[] {
  const files = readdirSync(PRESETS).filter((file) => file.endsWith('.json'));
  return files.sort().map((file) => {
    const {
      about,
      full = null,
      needsData = false,
      dtype = 'fp32',
      ...study
    } = JSON.parse(readFileSync(join(PRESETS, file), 'utf8')) as StudyInput & Pick<Preset, 'about'> & Partial<Preset>;
    return { name: file.slice(0, -'.json'.length), about, study, full, needsData, dtype };
  });
}

/** Returns a preset by name. @throws ConfigError for an unknown name. */
export function presetNamed(name: string): Preset {
  const all = presets();
  const preset = all.find((each) => each.name === name);
  if (preset) return preset;
  const names = all.map((each) => each.name);
  throw new ConfigError(`--preset is '${name}'${didYouMean(name, names)}; expected ${names.join(', ')}`, 'preset');
}
