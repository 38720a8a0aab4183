import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { ConfigError, DataError, integerFrom, nonNegative, parseOptions, positive } from '@peftjs/core';
import { closed } from './closed.js';
import { stagesSchema } from './stages.js';

const share = v.pipe(v.number(), v.minValue(0), v.maxValue(0.9));
const name = v.pipe(v.string(), v.minLength(1), v.maxLength(255));
const names = v.pipe(
  v.array(name),
  v.minLength(1),
  v.check((list) => new Set(list).size === list.length, 'expected each name once'),
);
const armName = v.pipe(name, v.regex(/^[^,\s]+$/, 'expected names of arms without spaces and commas'));

const armEntries = {
  /** The method; left out, the arm's own name is the method's. */
  method: v.optional(name),
  /** Options of the method itself; the budget fills in ranks. */
  options: v.optional(v.record(v.string(), v.unknown()), {}),
  learningRate: v.nullish(positive, null),
  /** Peak learning rates by optimizer group. */
  learningRates: v.optional(v.record(v.string(), positive), {}),
  /** Largest relative distance from the budget that counts as met. */
  tolerance: v.optional(positive, 0.02),
  /** Trains in stages, at one level of the method's sparsity after another, in place of a budget. */
  stages: v.exactOptional(stagesSchema),
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
  /** Which parameters a budget is compared with: those stored in the end, or those trained at the start. */
  matchOn: v.optional(v.picklist(['stored', 'trained']), 'stored'),
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
  /** What is compared, by arm: a method under its own name, or under another one with settings of its own. */
  methods: v.pipe(
    v.record(armName, closed(armEntries)),
    v.check((arms) => Object.keys(arms).length > 0, 'expected at least one method'),
    v.transform(withMethods),
  ),
  /** The arm that differences are taken to; null for the first that takes a budget. */
  reference: v.nullish(v.string(), null),
  budgets: names,
  seeds: integerFrom(1),
  protocol: closed(protocolEntries),
};

/** A study: which arms, tasks, budgets and seeds, and the protocol that holds for all of them. */
export type Study = v.InferOutput<v.ObjectSchema<typeof studyEntries, undefined>>;

/** How every trial of a study is trained and judged. */
export type StudyProtocol = Study['protocol'];

/** What a study says of an arm. */
export type ArmSettings = Study['methods'][string];

/** A study in the making: a preset, a file, or the flags of a command. */
export type StudyInput = Partial<Omit<Study, 'protocol' | 'methods'>> & {
  readonly protocol?: Partial<StudyProtocol>;
  /** Names of arms, whose settings come from the layers below, or names with settings; one that is nowhere below is a method. */
  readonly methods?: readonly string[] | Readonly<Record<string, unknown>>;
};

/**
 * What a preset is changed by for a language model: its rows are longer, and a batch's logits have every word of a vocabulary. A
 * study file and flags come above it.
 */
export const languageStudy: StudyInput = { protocol: { maxTokens: 128, batchSize: 8, evaluationBatchSize: 8 } };

/**
 * Reads a study file of the user's.
 * @throws DataError when it is missing or no JSON object.
 */
export async function readStudyFile(path: string): Promise<StudyInput> {
  let study: unknown;
  try {
    study = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new DataError(`--config ${path}: ${cause instanceof Error ? cause.message : String(cause)}`, path, cause);
  }
  if (isObject(study)) return study;
  throw new DataError(`--config ${path}: expected an object of a study's fields, such as {"seeds": 6}`, path);
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
  const unknown = Object.keys(merged).find((field) => !(field in studyEntries));
  if (unknown === undefined) return parseOptions('study', studyEntries, merged);
  const known = Object.keys(studyEntries).join(', ');
  throw new ConfigError(`study: option '${unknown}' is unknown; known are ${known}`, unknown);
}

/** Arms that are named, with the settings of the layers below where the one above says nothing. */
function methodsOver(below: StudyInput['methods'] & object, above: StudyInput['methods']): Record<string, unknown> {
  const known = Array.isArray(below) ? {} : (below as Record<string, object>);
  if (above === undefined) return known;
  const chosen = Array.isArray(above) ? above.map((arm: string) => [arm, {}] as const) : Object.entries(above);
  return Object.fromEntries(
    chosen.map(([arm, settings]) => [arm, isObject(settings) ? { ...known[arm], ...settings } : settings]),
  );
}

function defined<T extends object>(record: T): Partial<T> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as Partial<T>;
}

/** Arms that all say what their method is. */
function withMethods<S extends { readonly method?: string | undefined }>(
  arms: Readonly<Record<string, S>>,
): Record<string, S & { readonly method: string }> {
  return Object.fromEntries(
    Object.entries(arms).map(([arm, settings]) => [arm, { ...settings, method: settings.method ?? arm }]),
  );
}

function isObject(value: unknown): value is object {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}
