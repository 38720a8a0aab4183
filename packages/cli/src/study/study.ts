import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import {
  ConfigError,
  DataError,
  describe,
  dropoutRate,
  integerFrom,
  mapValues,
  nonNegative,
  parseOptions,
  positive,
} from '@peftjs/core/method';
import { closed, didYouMean } from '@peftjs/core/model';
import type { EnginePlan } from '../registry/executors.js';
import { lossNames } from '../registry/losses.js';
import { publishedName, type DataSource } from '../registry/tasks.js';
import { claimEntries } from '../results/files.js';
import { stagesSchema } from './stages.js';

/** The largest seed of a study. Its seeds are 1, 2, ..; those above are for tuning. */
export const MAX_SEEDS = 1000;

const share = v.pipe(v.number(), v.minValue(0), v.maxValue(0.9));
const name = v.pipe(v.string(), v.minLength(1), v.maxLength(255));
const different = v.pipe(
  v.array(name),
  v.check((list) => new Set(list).size === list.length, 'expected each name once'),
);
const names = v.pipe(different, v.minLength(1));
const armName = v.pipe(name, v.regex(/^[^,\s]+$/, 'expected names of arms without spaces and commas'));

/** Learning rates to try, sorted from the smallest. */
const grid = v.pipe(
  v.array(positive),
  v.minLength(1, 'expected at least one learning rate'),
  v.maxLength(20),
  v.check((rates) => new Set(rates).size === rates.length, 'expected each learning rate once'),
  v.transform((rates) => [...rates].sort((a, b) => a - b)),
);

const armEntries = {
  /** The method. Default the arm's name. */
  method: v.optional(name),
  /** The method's options; the budget fills in ranks. Default {}. */
  options: v.optional(v.record(v.string(), v.unknown()), {}),
  /** The peak learning rate if the study does not tune it; null for the protocol's. Default null. */
  learningRate: v.nullish(positive, null),
  /** Peak learning rates by optimizer group, tuned or not. Default {}. */
  learningRates: v.optional(v.record(v.string(), positive), {}),
  /** The arm's own budgets; [] for none, so that its options define its size; null for the study's. Default null. */
  budgets: v.nullish(different, null),
  /** The arm's own grid, as long as the study's; false to train at `learningRate` in a study that tunes. Default null. */
  tuning: v.nullish(v.union([closed({ learningRates: grid }), v.literal(false)]), null),
  /** `frozen` leaves the head untrained, which shows what the adapter does alone. Default `trained`. */
  head: v.optional(v.picklist(['trained', 'frozen']), 'trained'),
  /** The largest relative distance from the budget that counts as met. Default 0.02. */
  tolerance: v.optional(positive, 0.02),
  /** Trains in stages, each at one level of the method's sparsity, instead of at a budget. */
  stages: v.exactOptional(stagesSchema),
};

const protocolEntries = {
  /** Passes over the training rows; null for at least 3, and more for few labelled rows. Default null. */
  epochs: v.nullish(integerFrom(1), null),
  /** Rows per training batch. Default 32. */
  batchSize: v.optional(integerFrom(1), 32),
  /** Rows per evaluation batch. Default 64. */
  evaluationBatchSize: v.optional(integerFrom(1), 64),
  /**
   * Where rows are cut, in tokens; the model's limit always holds. Null for a length that the training rows need.
   * Default null.
   */
  maxTokens: v.nullish(integerFrom(1), null),
  /** The number of training rows, a seeded sample; null for all. Default null. */
  rows: v.nullish(integerFrom(2), null),
  /** The number of reported rows, a seeded sample; null for all. Default null. */
  devRows: v.nullish(integerFrom(1), null),
  /** The parameters that a budget counts: those stored at the end, or those trained at the start. Default `stored`. */
  matchOn: v.optional(v.picklist(['stored', 'trained']), 'stored'),
  /**
   * The selection and reported rows of a published task: as published, or halved as in the SoRA paper's code. Default
   * `official`.
   */
  split: v.optional(v.picklist(['official', 'half-dev']), 'official'),
  /** The share of the training rows that select checkpoints, unless the split names such rows. Default 0.1. */
  selectionShare: v.optional(v.pipe(share, v.gtValue(0)), 0.1),
  /**
   * A number of selection rows instead of that share, in addition to `rows`; at most half the training file, or what
   * `rows` leaves of it. Null for the share.
   */
  selectionRows: v.exactOptional(v.nullable(integerFrom(1))),
  /** The share of training rows that are relabelled with another class, drawn with the data's seed; null for none. */
  flippedLabels: v.exactOptional(v.nullable(v.pipe(share, v.gtValue(0)))),
  /** The seed of samples and splits, the same for every trial. Default 0. */
  dataSeed: v.optional(integerFrom(0), 0),
  /** Peak learning rate of the head, and of arms without their own; null for 2e-3 and each method's default. */
  learningRate: v.nullish(positive, null),
  /** The shape of the learning-rate schedule. Default `linear`. */
  schedule: v.optional(v.picklist(['linear', 'cosine', 'constant']), 'linear'),
  /** The share of steps that warm up the learning rate. Default 0.06. */
  warmupRatio: v.optional(share, 0.06),
  /** The share of steps, at the end, in which budgets hold and checkpoints are selected. Default 0.34. */
  finalRatio: v.optional(share, 0.34),
  /** Evaluations of checkpoints, spread over the final steps. Default 3. */
  evaluations: v.optional(integerFrom(1), 3),
  /**
   * Ends a trial after this many epochs without a better score on the selection rows, with its best checkpoint; null
   * for no early stopping.
   */
  earlyStoppingPatience: v.exactOptional(v.nullable(integerFrom(1))),
  /** AdamW's weight decay. Default 0. */
  weightDecay: v.optional(nonNegative, 0),
  /** The largest norm of the gradients; null for no clipping. Default 1. */
  clipNorm: v.nullish(positive, 1),
  /** The frozen network's own dropout: the rates of its config.json, or one rate for all places. Default 0, none. */
  dropout: v.exactOptional(v.union([v.literal('config'), dropoutRate])),
  /**
   * Whether layers are computed again in the backward pass, for less memory; results are the same. Default: if memory
   * is short.
   */
  gradientCheckpointing: v.exactOptional(v.boolean()),
  /**
   * The factor of the change (LoRA's alpha / r) of every arm whose method has one, at every budget; null for each
   * method's own.
   */
  scaling: v.exactOptional(v.nullable(positive)),
  /** The name of the loss. Default the one that suits the rows. */
  loss: v.exactOptional(v.picklist(lossNames)),
};

const tuningEntries = {
  /** The grid of every arm that has none of its own. */
  learningRates: grid,
  /**
   * The budget to tune at, whose rate is then used at every budget, or `each` to tune at each budget by itself. Null
   * for the first one. Default null.
   */
  budget: v.nullish(name, null),
  /** The number of seeds behind a score; none is a seed of the study. Default 1. */
  seeds: v.optional(integerFrom(1), 1),
  /** The tasks whose mean score chooses one rate for all tasks; null to tune each task separately. Default null. */
  tasks: v.nullish(names, null),
  /** How often every arm may get one more rate because some arm's best rate is at the edge of its grid. Default 0. */
  extensions: v.optional(v.pipe(integerFrom(0), v.maxValue(5)), 0),
};

const studyEntries = {
  /** The pretrained model: a folder, an npm package or a hub id. */
  model: v.pipe(v.string(), v.minLength(1), v.maxLength(1_000)),
  /** The task names. */
  tasks: names,
  /** The arms by name. An arm is the method of that name, or has its own `method` and settings. */
  methods: v.pipe(
    v.record(armName, closed(armEntries)),
    v.check((arms) => Object.keys(arms).length > 0, 'expected at least one method'),
    v.transform((arms) => mapValues(arms, (settings, arm) => ({ ...settings, method: settings.method ?? arm }))),
  ),
  /** The arm that differences are taken against; null for the first with a budget. Default null. */
  reference: v.nullish(v.string(), null),
  /** The equivalence margin, in units of the primary metric, stated before the run; null for none. Default null. */
  margin: v.nullish(positive, null),
  /** Claims to test. Default []. */
  claims: v.optional(v.array(closed(claimEntries)), []),
  /** The budgets as typed. */
  budgets: names,
  /** The number of seeds: 1 to `seeds`. */
  seeds: v.pipe(integerFrom(1), v.maxValue(MAX_SEEDS)),
  /** How to tune learning rates, on rows that no result is reported on; null for no tuning. Default null. */
  tuning: v.nullish(closed(tuningEntries), null),
  /** How every trial is trained and evaluated. */
  protocol: closed(protocolEntries),
};

/** A study: arms, tasks, budgets, seeds, and the protocol of all trials. */
export type Study = v.InferOutput<v.ObjectSchema<typeof studyEntries, undefined>>;

/** A study with its data and engine. */
export interface ComposedStudy {
  /** The study. */
  readonly study: Study;
  /** Where the data come from. */
  readonly data: DataSource;
  /** The engine that computes it. */
  readonly engine: EnginePlan;
}

/** How every trial of a study is trained and evaluated. */
export type StudyProtocol = Study['protocol'];

/** How a study tunes learning rates. */
type Tuning = NonNullable<Study['tuning']>;

/** The settings of an arm. */
export type ArmSettings = Study['methods'][string];

/** One layer of a study: a preset, a study file or the flags of a command. */
export type StudyInput = Partial<Omit<Study, 'protocol' | 'methods' | 'tuning'>> & {
  /** Tuning settings; null for no tuning. */
  readonly tuning?: unknown;
  /** Protocol settings. */
  readonly protocol?: Partial<StudyProtocol>;
  /**
   * Names of arms, whose settings come from the layers below, or names with settings. A name that no layer below has is
   * a method.
   */
  readonly methods?: readonly string[] | Readonly<Record<string, unknown>>;
};

/**
 * The changes to a preset for a language model: its rows are the user's own, and a batch's logits span the whole
 * vocabulary. A study file and flags override it.
 */
export const languageStudy: StudyInput = { protocol: { maxTokens: null, batchSize: 8, evaluationBatchSize: 8 } };

/**
 * Reads a study file. Published tasks in a folder, in any spelling, get their one name; its fields are not checked yet.
 * @throws DataError if it is missing or not a JSON object.
 */
export async function readStudyFile(path: string, { kind }: DataSource): Promise<StudyInput> {
  const spelled = (key: string, value: unknown): unknown =>
    kind === 'folder' && key === 'tasks' && Array.isArray(value)
      ? value.map((task: unknown) => (typeof task === 'string' ? publishedName(task) : task))
      : value;
  let study: unknown;
  try {
    study = JSON.parse(new TextDecoder().decode(await readFile(path)), spelled); // without a byte order mark
  } catch (cause) {
    throw new DataError(`--config ${path}: ${(cause as Error).message}`, path, cause);
  }
  if (isObject(study)) return study;
  throw new DataError(`--config ${path}: expected a JSON object with fields of a study, such as {"seeds": 6}`, path);
}

/**
 * Merges study layers, later ones overriding earlier ones, and checks the result.
 * @throws ConfigError naming the first invalid field.
 */
export function composeStudy(layers: readonly StudyInput[]): Study {
  layers.forEach(assertMergeable);
  const merged = layers.reduce<StudyInput>(
    (below, above) => ({
      ...below,
      ...defined(above),
      protocol: { ...below.protocol, ...defined(above.protocol ?? {}) },
      methods: mergeMethods(below.methods ?? {}, above.methods),
    }),
    {},
  );
  const study = parseOptions('study', studyEntries, merged);
  assertEqualTuning(study);
  assertOneScale(study);
  assertStopsAtOnce(study);
  return chosenOnly(study, layers);
}

/** @throws ConfigError for a field of a layer that cannot be merged with that of another. */
function assertMergeable({ methods = {}, protocol = {} }: StudyInput): void {
  if (!isObject(methods) && !Array.isArray(methods)) {
    throw new ConfigError(`study: 'methods' is ${describe(methods)}; expected names, or settings by name`, 'methods');
  }
  if (isObject(protocol)) return;
  throw new ConfigError(`study: 'protocol' is ${describe(protocol)}; expected its fields by name`, 'protocol');
}

/**
 * Drops the claims and tuning tasks that will not run: flags may have picked some of a preset's arms and tasks, and a
 * study file may have replaced its budgets.
 * @throws ConfigError for names that match no layer.
 */
function chosenOnly(study: Study, layers: readonly StudyInput[]): Study {
  const { methods, tasks, tuning, claims, reference } = study;
  const arms = [...new Set(layers.flatMap((layer) => Object.keys(mergeMethods({}, layer.methods))))];
  const everyTask = [...new Set(layers.flatMap((layer) => layer.tasks ?? []))];
  claims.forEach(({ arm, noWorseThan }, index) => {
    assertKnown(arm, arms, `claims.${index}.arm`);
    assertKnown(noWorseThan, arms, `claims.${index}.noWorseThan`);
  });
  if (reference !== null) assertKnown(reference, arms, 'reference');
  for (const task of tuning?.tasks ?? []) assertKnown(task, everyTask, 'tuning.tasks');
  const hasBudgets = (layer: StudyInput): boolean =>
    layer.budgets !== undefined || Object.values(layer.methods ?? {}).some((arm) => 'budgets' in Object(arm));
  const areReplaced = layers.findLastIndex(hasBudgets) > layers.findLastIndex((layer) => layer.claims !== undefined);
  const isRun = (arm: string, budget: string | null): boolean => {
    const settings = methods[arm];
    return settings !== undefined && (!areReplaced || budget === null || budgetsOf(settings, study).includes(budget));
  };
  const tunedOn = tuning?.tasks?.filter((task) => tasks.includes(task)) ?? [];
  return {
    ...study,
    claims: claims.filter((claim) => isRun(claim.arm, claim.budget) && isRun(claim.noWorseThan, claim.itsBudget)),
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

/** The budgets of an arm whose method supports them; [null] for none, as for an arm in stages. */
export function budgetsOf({ budgets: own, stages }: ArmSettings, { budgets }: Study): readonly (string | null)[] {
  const chosen = stages ? [] : (own ?? budgets);
  return chosen.length === 0 ? [null] : chosen;
}

/** The learning rates to try for an arm; none for one that is not tuned. */
export function gridOf({ tuning }: ArmSettings, { learningRates }: Tuning): readonly number[] {
  return tuning === false ? [] : (tuning?.learningRates ?? learningRates);
}

/** Tuning is fair only if every arm tries the same number of rates. @throws ConfigError otherwise. */
function assertEqualTuning({ methods, tuning }: Study): void {
  if (!tuning) return;
  const { learningRates } = tuning;
  for (const [arm, settings] of Object.entries(methods)) {
    const rates = gridOf(settings, tuning).length;
    if (settings.stages) {
      throw new ConfigError(
        `study: '${arm}' is trained in stages, which cannot be tuned; give it a learningRate and set tuning to null`,
        `methods.${arm}.stages`,
      );
    }
    if (settings.tuning === false || rates === learningRates.length) continue;
    throw new ConfigError(
      `unequal tuning effort: the grid of '${arm}' has ${rates} learning rates, the study's has ${learningRates.length}; give every arm the same number`,
      `methods.${arm}.tuning.learningRates`,
    );
  }
}

/** @throws ConfigError for an arm in stages if the protocol stops early: a stage has its own length. */
function assertStopsAtOnce({ methods, protocol: { earlyStoppingPatience } }: Study): void {
  const [arm] = Object.entries(methods).find(([, { stages }]) => stages) ?? [];
  if (earlyStoppingPatience == null || arm === undefined) return;
  throw new ConfigError(
    `study: '${arm}' is trained in stages, which do not stop early; leave out its stages or protocol.earlyStoppingPatience`,
    `methods.${arm}.stages`,
  );
}

/** Options that set the scale of an arm. */
const SCALES = ['loraAlpha', 'alpha', 'alphaPattern'];

/** @throws ConfigError for an arm whose options set its scale if the protocol does. */
function assertOneScale({ methods, protocol: { scaling } }: Study): void {
  for (const [arm, { options }] of Object.entries(methods)) {
    const own = SCALES.find((option) => option in options);
    if (scaling == null || own === undefined) continue;
    throw new ConfigError(
      `study: '${arm}' has the option ${own}, but protocol.scaling gives every arm the scale ${scaling}; give it options without ${own}, or leave out scaling`,
      `methods.${arm}.options.${own}`,
    );
  }
}

/** The arms that `above` names, or all of `below` if it names none; settings that it leaves out come from `below`. */
export function mergeMethods(
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

/** The fields of a record that are not undefined. */
export type Defined<T> = { [P in keyof T]?: Exclude<T[P], undefined> };

/** Leaves out the fields of a record that are undefined. */
export function defined<T extends object>(record: T): Defined<T> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as Defined<T>;
}

function isObject(value: unknown): value is object {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}
