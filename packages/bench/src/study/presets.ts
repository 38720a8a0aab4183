import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError, didYouMean } from '@peftjs/core/method';
import { packageRoot } from '../registry/packages.js';
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
  /** Whether its tasks are those of a folder of the user's. */
  readonly needsData: boolean;
  /** How frozen weights are held where no flag says it. */
  readonly dtype: 'fp32' | 'q8';
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
  const names = all.map((each) => each.name);
  throw new ConfigError(`--preset is '${name}'${didYouMean(name, names)}; expected ${names.join(', ')}`, 'preset');
}

/** A preset's file: a study, and what is said of it. */
type PresetFile = StudyInput & Pick<Preset, 'about'> & Partial<Pick<Preset, 'full' | 'needsData' | 'dtype'>>;

function presetIn(name: string): Preset {
  const file = JSON.parse(readFileSync(join(PRESETS, `${name}.json`), 'utf8')) as PresetFile;
  const { about, full = null, needsData = false, dtype = 'fp32', ...study } = file;
  return { name, about, study, full, needsData, dtype };
}
