import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { ConfigError, DataError, integerFrom, nonNegative, parseOptions, positive } from '@peftjs/core';
import { packageRoot } from '../package-root.js';

const share = v.pipe(v.number(), v.minValue(0), v.maxValue(0.9));
const names = v.pipe(v.array(v.pipe(v.string(), v.minLength(1))), v.minLength(1));

const methodEntries = {
  /** Options of the method itself; the budget fills in ranks. */
  options: v.optional(v.record(v.string(), v.unknown()), {}),
  learningRate: v.nullish(positive, null),
  /** Peak learning rates by optimizer group. */
  learningRates: v.optional(v.record(v.string(), positive), {}),
  /** Largest relative distance from the budget that counts as met. */
  tolerance: v.optional(positive, 0.02),
};

const protocolEntries = {
  epochs: v.optional(integerFrom(1), 3),
  batchSize: v.optional(integerFrom(1), 32),
  evaluationBatchSize: v.optional(integerFrom(1), 64),
  /** Rows are cut here; the model's own limit holds too. */
  maxTokens: v.optional(integerFrom(1), 64),
  /** Seeded slice of the training file; null for all of it. */
  rows: v.nullish(integerFrom(2), null),
  /** Seeded slice of the reported file; null for all of it. */
  devRows: v.nullish(integerFrom(1), null),
  /** Which rows of a published task select and which are reported: as published, or as the SoRA paper's code halves them. */
  split: v.optional(v.picklist(['official', 'half-dev']), 'official'),
  /** Share of the training rows that checkpoints are selected on, where the split does not name such rows. */
  selectionShare: v.optional(v.pipe(share, v.gtValue(0)), 0.1),
  /** Seed of slices and splits: the same for every trial. */
  dataSeed: v.optional(integerFrom(0), 0),
  learningRate: v.optional(positive, 2e-3),
  schedule: v.optional(v.picklist(['linear', 'cosine', 'constant']), 'linear'),
  warmupRatio: v.optional(share, 0.06),
  finalRatio: v.optional(share, 0.34),
  evaluations: v.optional(integerFrom(1), 3),
  weightDecay: v.optional(nonNegative, 0),
  clipNorm: v.nullish(positive, 1),
};

const studyEntries = {
  model: v.pipe(v.string(), v.minLength(1)),
  tasks: names,
  methods: v.record(v.string(), v.object(methodEntries)),
  /** The method that differences are taken to; null for the first that takes a budget. */
  reference: v.nullish(v.string(), null),
  budgets: names,
  seeds: integerFrom(1),
  protocol: v.object(protocolEntries),
};

/** A study: which methods, tasks, budgets and seeds, and the protocol that holds for all of them. */
export type Study = v.InferOutput<v.ObjectSchema<typeof studyEntries, undefined>>;

/** How every trial of a study is trained and judged. */
export type StudyProtocol = Study['protocol'];

/** What a study says of a method. */
export type MethodSettings = Study['methods'][string];

/** A study in the making: a preset, a file, or the flags of a command. */
export type StudyInput = Partial<Omit<Study, 'protocol' | 'methods'>> & {
  readonly protocol?: Partial<StudyProtocol>;
  /** Method names, whose settings come from the layers below, or names with settings. */
  readonly methods?: readonly string[] | Readonly<Record<string, unknown>>;
};

/**
 * What a preset is changed by for a language model: its rows are longer, and a batch's logits have every word of a vocabulary. A
 * study file and flags come above it.
 */
export const languageStudy: StudyInput = { protocol: { maxTokens: 128, batchSize: 8, evaluationBatchSize: 8 } };

/** The presets that come with the package, as data files. */
const PRESETS = join(packageRoot, 'presets');
const KNOWN_PRESETS = ['smoke', 'quick'];

/**
 * Reads a preset.
 * @throws ConfigError when there is none of that name.
 */
export async function readPreset(name: string): Promise<StudyInput> {
  if (!KNOWN_PRESETS.includes(name)) {
    throw new ConfigError(`--preset is '${name}'; expected ${KNOWN_PRESETS.join(' or ')}`, 'preset');
  }
  return JSON.parse(await readFile(join(PRESETS, `${name}.json`), 'utf8')) as StudyInput;
}

/**
 * Reads a study file of the user's.
 * @throws DataError when it is missing or no JSON object.
 */
export async function readStudyFile(path: string): Promise<StudyInput> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as StudyInput;
  } catch (cause) {
    throw new DataError(`--config ${path}: ${cause instanceof Error ? cause.message : String(cause)}`, path, cause);
  }
}

/**
 * Lays study inputs over one another, the later over the earlier, and checks the result.
 * @throws ConfigError naming the first field with an impossible value.
 */
export function composeStudy(layers: readonly StudyInput[]): Study {
  const merged = layers.reduce<StudyInput>(
    (below, above) => ({
      ...below,
      ...defined(above),
      protocol: { ...below.protocol, ...defined(above.protocol ?? {}) },
      methods: methodsOver(below.methods ?? {}, above.methods),
    }),
    {},
  );
  return parseOptions('study', studyEntries, merged);
}

/** Methods that are named, with the settings of the layers below where the one above says nothing. */
function methodsOver(below: StudyInput['methods'] & object, above: StudyInput['methods']): Record<string, unknown> {
  const known = Array.isArray(below) ? {} : (below as Record<string, object>);
  if (above === undefined) return known;
  const chosen = Array.isArray(above) ? above.map((name: string) => [name, {}] as const) : Object.entries(above);
  return Object.fromEntries(chosen.map(([name, settings]) => [name, { ...known[name], ...(settings as object) }]));
}

function defined<T extends object>(record: T): Partial<T> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as Partial<T>;
}
