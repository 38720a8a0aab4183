import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import {
  ConfigError,
  DataError,
  didYouMean,
  integerFrom,
  nonNegative,
  parseOptions,
  positive,
} from '@peftjs/core/method';
import { sparsifyingLevels } from '@peftjs/core/runtime';
import type { EnginePlan } from '../registry/executors.js';
import { lossNames } from '../registry/losses.js';
import type { DataSource } from '../registry/tasks.js';
import { MAX_STAGES } from '../results/schema.js';

const listed = v.pipe(v.array(nonNegative), v.minLength(1), v.maxLength(MAX_STAGES));

/** Levels by their spacing, as `sparsifyingLevels` makes them. */
const spaced = v.pipe(
  closed({
    kind: v.picklist(['linear', 'log_linear', 'exp_linear']),
    from: nonNegative,
    to: nonNegative,
    stages: v.pipe(integerFrom(1), v.maxValue(MAX_STAGES)),
  }),
  v.rawTransform(({ dataset: { value }, addIssue, NEVER }) => {
    try {
      return sparsifyingLevels(value.kind, value.from, value.to, value.stages);
    } catch (error) {
      addIssue({ message: (error as Error).message });
      return NEVER;
    }
  }),
);

const levels = v.lazy((input): v.GenericSchema<unknown, number[]> => (Array.isArray(input) ? listed : spaced));

/** The sparsifying schedule that an arm is trained by (`sparsify` of core). */
export const stagesSchema = closed({
  /** A level of the method's sparsity for each stage: a list, or `{ kind, from, to, stages }`. */
  levels,
  /** Epochs of the first stage; null for those of the protocol. */
  epochs: v.nullish(integerFrom(1), null),
  /** Epochs of every other stage; 15 in the SoRA paper's code. */
  stageEpochs: v.optional(integerFrom(1), 15),
  /** Training rows that memorization is measured on, drawn by the seed of the data; 1000 in that code. */
  memorizationRows: v.optional(integerFrom(1), 1000),
});

/** How an arm is trained in stages. */
export type Stages = v.InferOutput<typeof stagesSchema>;

/** Epochs that are trained before a stage, of a trial whose protocol has `epochs`; before the one after the last: all of them. */
export function epochsBefore(stage: number, { epochs: own, stageEpochs }: Stages, epochs: number): number {
  return stage === 0 ? 0 : (own ?? epochs) + (stage - 1) * stageEpochs;
}

/** Seeds of a study are 1, 2, ..; those above are for tuning. */
export const MAX_SEEDS = 1000;

const share = v.pipe(v.number(), v.minValue(0), v.maxValue(0.9));
const name = v.pipe(v.string(), v.minLength(1), v.maxLength(255));
const different = v.pipe(
  v.array(name),
  v.check((list) => new Set(list).size === list.length, 'expected each name once'),
);
const names = v.pipe(different, v.minLength(1));
const armName = v.pipe(name, v.regex(/^[^,\s]+$/, 'expected names of arms without spaces and commas'));

/** Learning rates to try, from the smallest. */
const grid = v.pipe(
  v.array(positive),
  v.minLength(1, 'expected at least one learning rate'),
  v.maxLength(20),
  v.check((rates) => new Set(rates).size === rates.length, 'expected each learning rate once'),
  v.transform((rates) => [...rates].sort((a, b) => a - b)),
);

const armEntries = {
  /** The method; left out, the arm's own name is the method's. */
  method: v.optional(name),
  /** Options of the method itself; the budget fills in ranks. */
  options: v.optional(v.record(v.string(), v.unknown()), {}),
  /** Peak learning rate where the study does not tune it; null for the protocol's. */
  learningRate: v.nullish(positive, null),
  /** Peak learning rates by optimizer group, tuned or not. */
  learningRates: v.optional(v.record(v.string(), positive), {}),
  /** Budgets of its own; none of them ([]) for a method that its options are to configure. Null for the study's. */
  budgets: v.nullish(different, null),
  /** A grid of its own, as long as the study's. */
  tuning: v.nullish(closed({ learningRates: grid }), null),
  /** 'frozen': the head is not trained, a control of what the adapter does by itself. */
  head: v.optional(v.picklist(['trained', 'frozen']), 'trained'),
  /** Largest relative distance from the budget that counts as met. */
  tolerance: v.optional(positive, 0.02),
  /** Trains in stages, at one level of the method's sparsity after another, in place of a budget. */
  stages: v.exactOptional(stagesSchema),
};

const protocolEntries = {
  epochs: v.optional(integerFrom(1), 3),
  batchSize: v.optional(integerFrom(1), 32),
  evaluationBatchSize: v.optional(integerFrom(1), 64),
  /** Rows are cut here, and at the model's own limit; null for a length that the training rows need. */
  maxTokens: v.nullish(integerFrom(1), null),
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
  /** So many rows in its place, beside the `rows` to train on; at most half of the training file. Null for the share. */
  selectionRows: v.exactOptional(v.nullable(integerFrom(1))),
  /** Share of the training rows that are given another class, drawn by the seed of the data; null for none. Others keep theirs. */
  flippedLabels: v.exactOptional(v.nullable(v.pipe(share, v.gtValue(0)))),
  /** Seed of slices and splits: the same for every trial. */
  dataSeed: v.optional(integerFrom(0), 0),
  /** Peak learning rate of the head, and of arms that have none of their own; null for 2e-3 and each method's default. */
  learningRate: v.nullish(positive, null),
  schedule: v.optional(v.picklist(['linear', 'cosine', 'constant']), 'linear'),
  warmupRatio: v.optional(share, 0.06),
  finalRatio: v.optional(share, 0.34),
  evaluations: v.optional(integerFrom(1), 3),
  weightDecay: v.optional(nonNegative, 0),
  clipNorm: v.nullish(positive, 1),
  /** What is minimised, by name. Left out, what suits the rows. */
  loss: v.exactOptional(v.picklist(lossNames)),
};

const tuningEntries = {
  /** What is tried for every arm that has no grid of its own. */
  learningRates: grid,
  /** The budget at which they are tried; what is chosen there is used at every budget. Null for the first one. */
  budget: v.nullish(name, null),
  /** Seeds behind a score; none of them is a seed of the study. */
  seeds: v.optional(integerFrom(1), 1),
  /** The tasks that rates are chosen on, by their mean score, for all tasks; null for each task on its own. */
  tasks: v.nullish(names, null),
  /** How often every arm gets one more rate because some arm's best one lies at the edge of its grid. */
  extensions: v.optional(v.pipe(integerFrom(0), v.maxValue(5)), 0),
};

/** A statement that is made before a run: an arm is not worse than another one by a margin or more. */
const claim = closed({
  arm: v.string(),
  /** The budget of `arm`, as typed; null where it has none. */
  budget: v.nullish(v.string(), null),
  noWorseThan: v.string(),
  /** The budget of that other arm. */
  itsBudget: v.nullish(v.string(), null),
  /** In the primary metric; left out, the study's. */
  margin: v.exactOptional(positive),
});

const studyEntries = {
  model: v.pipe(v.string(), v.minLength(1), v.maxLength(1_000)),
  tasks: names,
  /** What is compared, by arm: a method under its own name, or under another one with settings of its own. */
  methods: v.pipe(
    v.record(armName, closed(armEntries)),
    v.check((arms) => Object.keys(arms).length > 0, 'expected at least one method'),
    v.transform(withMethods),
  ),
  /** The arm that differences are taken to; null for the first that takes a budget. */
  reference: v.nullish(v.string(), null),
  /** Within which difference in the primary metric two arms count as equivalent, said before anything is run; null for none. */
  margin: v.nullish(positive, null),
  claims: v.optional(v.array(claim), []),
  budgets: names,
  seeds: v.pipe(integerFrom(1), v.maxValue(MAX_SEEDS)),
  /** How learning rates are chosen, on rows that nothing is reported on; null where they are given. */
  tuning: v.nullish(closed(tuningEntries), null),
  protocol: closed(protocolEntries),
};

/** A study: which arms, tasks, budgets and seeds, and the protocol that holds for all of them. */
export type Study = v.InferOutput<v.ObjectSchema<typeof studyEntries, undefined>>;

/** A study, where its data come from, and what computes it. */
export interface ComposedStudy {
  readonly study: Study;
  readonly data: DataSource;
  readonly engine: EnginePlan;
}

/** How every trial of a study is trained and judged. */
export type StudyProtocol = Study['protocol'];

/** How a study chooses learning rates. */
export type Tuning = NonNullable<Study['tuning']>;

/** What a study says of an arm. */
export type ArmSettings = Study['methods'][string];

/** A study in the making: a preset, a file, or the flags of a command. */
export type StudyInput = Partial<Omit<Study, 'protocol' | 'methods' | 'tuning'>> & {
  readonly tuning?: unknown;
  readonly protocol?: Partial<StudyProtocol>;
  /** Names of arms, whose settings come from the layers below, or names with settings; one that is nowhere below is a method. */
  readonly methods?: readonly string[] | Readonly<Record<string, unknown>>;
};

/**
 * What a preset is changed by for a language model: its rows are the user's own, and a batch's logits have every word of a
 * vocabulary. A study file and flags come above it.
 */
export const languageStudy: StudyInput = { protocol: { maxTokens: null, batchSize: 8, evaluationBatchSize: 8 } };

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
  const study = parseOptions('study', studyEntries, merged);
  assertEqualTuning(study);
  return chosenOnly(study, layers);
}

/**
 * A study whose claims and tasks to tune on are among what is run: flags may have picked some of a preset's arms and tasks.
 * @throws ConfigError for names that are in no layer.
 */
function chosenOnly(study: Study, layers: readonly StudyInput[]): Study {
  const { methods, tasks, tuning, claims } = study;
  const arms = [...new Set(layers.flatMap((layer) => Object.keys(methodsOver({}, layer.methods))))];
  const everyTask = [...new Set(layers.flatMap((layer) => layer.tasks ?? []))];
  claims.forEach(({ arm, noWorseThan }, index) => {
    assertKnown(arm, arms, `claims.${index}.arm`);
    assertKnown(noWorseThan, arms, `claims.${index}.noWorseThan`);
  });
  for (const task of tuning?.tasks ?? []) assertKnown(task, everyTask, 'tuning.tasks');
  const tunedOn = tuning?.tasks?.filter((task) => tasks.includes(task)) ?? [];
  return {
    ...study,
    claims: claims.filter(({ arm, noWorseThan }) => arm in methods && noWorseThan in methods),
    tuning: tuning && { ...tuning, tasks: tunedOn.length > 0 ? tunedOn : null },
  };
}

function assertKnown(name: string, known: readonly string[], path: string): void {
  if (known.includes(name)) return;
  throw new ConfigError(
    `study: '${path}' has '${name}'${didYouMean(name, known)}; expected one of ${known.join(', ')}`,
    path,
  );
}

/** The budgets of an arm whose method takes one; null stands for none, as for an arm in stages. */
export function budgetsOf({ budgets: own, stages }: ArmSettings, { budgets }: Study): readonly (string | null)[] {
  const chosen = stages ? [] : (own ?? budgets);
  return chosen.length === 0 ? [null] : chosen;
}

/** The learning rates that are tried for an arm. */
export function gridOf({ tuning }: ArmSettings, { learningRates }: Tuning): readonly number[] {
  return tuning?.learningRates ?? learningRates;
}

/** Tuning is fair where every arm has as many tries. */
function assertEqualTuning({ methods, tuning }: Study): void {
  if (!tuning) return;
  const { learningRates } = tuning;
  for (const [arm, settings] of Object.entries(methods)) {
    const rates = gridOf(settings, tuning).length;
    if (settings.stages) {
      throw new ConfigError(
        `study: '${arm}' is trained in stages, which no learning rate is tuned for; give it a learningRate and set tuning to null`,
        `methods.${arm}.stages`,
      );
    }
    if (rates === learningRates.length) continue;
    throw new ConfigError(
      `equal tuning effort: '${arm}' has a grid of ${rates} learning rates, the study one of ${learningRates.length}; give every arm as many`,
      `methods.${arm}.tuning.learningRates`,
    );
  }
}

/** Arms that are named, with the settings of the layers below where the one above says nothing. */
export function methodsOver(
  below: StudyInput['methods'] & object,
  above: StudyInput['methods'],
): Record<string, unknown> {
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

/** An object that has no fields but these; `parseOptions` completes the message. */
function closed<const S extends v.ObjectEntries>(
  entries: S,
): v.StrictObjectSchema<S, (issue: v.StrictObjectIssue) => string> {
  const known = Object.keys(entries);
  return v.strictObject(entries, ({ input }) => `${didYouMean(input, known)}; known are ${known.join(', ')}`);
}
