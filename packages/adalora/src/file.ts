import {
  assertKnownVariant,
  CheckpointError,
  describe,
  fanInFanOut,
  fieldsOf,
  hostZeros,
  loraFile,
  mapValues,
  optionsIn,
  patternValue,
  readLoraFile,
  readTensors,
  tensorAt,
  tensorsAt,
  UnsupportedError,
  type AdapterContents,
  type AdapterFile,
  type AdapterLayers,
  type HostTensor,
  type HostTensors,
  type Site,
} from '@peftjs/core/method';
import { allocatedRanks } from '@peftjs/core/ranks';
import { valuesOf } from '@peftjs/core/model';
import { pickColumns, pickRows, placeColumns, placeRows, scaled, transposed } from '@peftjs/core/linalg';
import { parseAdaloraConfig, type AdaloraConfig } from './config.js';
import { maskOf } from './controller.js';
import { initialScores } from './layer.js';

const FACTORS = { loraA: ['.lora_A', 'kept', 'in'], loraB: ['.lora_B', 'out', 'kept'] } as const;

/** A module's tensors on disk, and the suffix with which keys of `rank_pattern` end. */
const FORMATS = {
  svd: { tensors: { ...FACTORS, loraE: ['.lora_E', 'kept', '1'] }, ranked: '.lora_E' },
  lora: { tensors: FACTORS, ranked: '.lora_A' },
} as const satisfies Record<AdaloraConfig['parametrization'], unknown>;

/** The most ranks that a file may allocate per rank that it holds, where each module counts as one rank more. */
const MASKED_PER_KEPT = 64;

/** PEFT's fields on disk and their options. */
const PEFT_FIELDS = {
  init_r: 'initR',
  target_r: 'targetR',
  lora_alpha: 'loraAlpha',
  lora_dropout: 'loraDropout',
  deltaT: 'deltaT',
  beta1: 'beta1',
  beta2: 'beta2',
  orth_reg_weight: 'orthRegWeight',
} as const satisfies Record<string, keyof AdaloraConfig>;

/**
 * The fields that PEFT does not have, and their options. Only further training needs them. PEFT warns of unknown
 * fields, so a default is not written.
 */
const OWN_FIELDS = {
  parametrization: 'parametrization',
  orth_regularizer: 'orthRegularizer',
  importance: 'importance',
  allocator: 'allocator',
  budget_unit: 'budgetUnit',
  budget: 'budget',
  compact: 'compact',
} as const satisfies Record<string, keyof AdaloraConfig>;

/** What `phases` holds, as the options are. */
const PHASES = { totalStep: 'totalStep', tinit: 'tinit', tfinal: 'tfinal' } as const;

/**
 * Writes the adapter: pruned as PEFT's LORA with the singular values folded in, otherwise as ADALORA with everything
 * that further training needs. If ranks have been removed, the remaining ones are the first of `init_r`, and
 * `rank_pattern` lists them; doublets have no `lora_E`.
 */
export function adaloraFile(
  adapter: AdapterContents<AdaloraConfig>,
  { pruned }: { readonly pruned: boolean },
): AdapterFile {
  if (pruned) return loraFile(adapter);
  const { config, layers, values } = adapter;
  const triplets = config.parametrization === 'svd';
  const tensors: HostTensors = {};
  const rankPattern: Record<string, boolean[]> = {};
  for (const [path, layer] of Object.entries(layers)) {
    const own = allocatedRanks(layer) > 0 ? valuesOf(layer, values) : withoutRanks(layer.site);
    const kept = keptOf(own, config.initR);
    const ranks = kept.flatMap((keep, rank) => (keep ? [rank] : []));
    tensors[`${path}.lora_A`] = transposed(pickColumns(tensorAt(own, 'loraA'), ranks)); // [in, r] -> [kept, in]
    if (triplets) tensors[`${path}.lora_E`] = pickRows(asColumn(tensorAt(own, 'loraE')), ranks); // [r] -> [kept, 1]
    tensors[`${path}.lora_B`] = transposed(pickRows(tensorAt(own, 'loraB'), ranks)); // [r, out] -> [out, kept]
    rankPattern[path + FORMATS[config.parametrization].ranked] = kept;
  }
  const complete = triplets && Object.values(rankPattern).flat().every(Boolean);
  return { config: fileConfig(config, layers, complete ? null : rankPattern), tensors };
}

/**
 * Reads PEFT's ADALORA, and PEFT's LORA as doublets. Dropped ranks come back as masked zeros; with `compact`, which
 * only unpruned files contain, they do not come back.
 * @throws CheckpointError that names the invalid tensor or field.
 * @throws UnsupportedError for trained biases.
 */
export function readAdaloraFile(file: AdapterFile): { config: Partial<AdaloraConfig>; values: HostTensors } {
  const { config } = file;
  if (config.peft_type === 'LORA') return readDoublets(file);
  assertKnownVariant(config);
  const options = readOptions(config);
  const parsed = parseAdaloraConfig(options);
  const { tensors: known, ranked } = FORMATS[parsed.parametrization];
  const { targetModules, values: read, sizes } = readTensors(file, known);
  const kept = mapValues(sizes, (own) => tensorAt(own, 'kept'));
  assertFewMasked(Object.values(kept), parsed.initR);
  const values = targetModules.map((path) => {
    const places = keptRanks(config, path + ranked, { kept: tensorAt(kept, path), initR: parsed.initR });
    const own = mapValues(known, (_, name) => tensorAt(read, `${path}.${name}`));
    if (!parsed.compact) return placed(path, own, places, { parsed, r: parsed.initR });
    return places.length === 0 ? {} : placed(path, own, [...places.keys()], { parsed, r: places.length });
  });
  return { config: { ...options, targetModules }, values: Object.assign({}, ...values) as HostTensors };
}

/** Returns the tensors of a module without ranks. */
function withoutRanks({ inFeatures, outFeatures }: Site): HostTensors {
  const none = hostZeros([0]);
  return { loraA: hostZeros([inFeatures, 0]), loraE: none, loraB: hostZeros([0, outFeatures]), mask: none };
}

/** Returns for each of the `initR` ranks whether it is written: doublets that are kept; all triplets in the tensors. */
function keptOf(own: HostTensors, initR: number): boolean[] {
  const held = [...tensorAt(own, 'mask').data].map((keep) => keep !== 0 || own.loraE !== undefined);
  return Array.from({ length: initR }, (_, rank) => held[rank] ?? false);
}

function asColumn(vector: HostTensor): HostTensor {
  return { ...vector, shape: [vector.data.length, 1] };
}

function fileConfig(
  config: AdaloraConfig,
  layers: AdapterLayers,
  rankPattern: Readonly<Record<string, readonly boolean[]>> | null,
): AdapterFile['config'] {
  const { totalStep, tinit, tfinal } = config;
  const least = leastTotal(tinit ?? 0, tfinal ?? 0);
  const isUnclear = totalStep === null ? tinit === 0 || tfinal === 0 : totalStep === least;
  const ordinary = fieldsOf(parseAdaloraConfig({}), OWN_FIELDS);
  const own = Object.entries(fieldsOf(config, OWN_FIELDS)).filter(([field, value]) => value !== ordinary[field]);
  return {
    peft_type: 'ADALORA',
    ...fieldsOf(config, PEFT_FIELDS),
    ...Object.fromEntries(own),
    tinit: tinit ?? 0,
    tfinal: tfinal ?? 0,
    total_step: totalStep ?? least,
    ...(isUnclear && { phases: fieldsOf(config, PHASES) }),
    rank_pattern: rankPattern,
    target_modules: Object.keys(layers),
    exclude_modules: null,
    bias: 'none',
    fan_in_fan_out: fanInFanOut(Object.values(layers).map(({ site }) => site)),
  };
}

/** Returns the smallest `total_step` that PEFT accepts. It is written if the real one is unknown. */
function leastTotal(tinit: number, tfinal: number): number {
  return tinit + tfinal + 1;
}

type ReadOptions = Partial<AdaloraConfig> & Pick<AdaloraConfig, 'initR'>;

function readOptions(config: AdapterFile['config']): ReadOptions {
  if (typeof config.bias === 'string' && config.bias !== 'none') {
    throw new UnsupportedError(
      `the adapter was trained with bias '${config.bias}'; AdaLoRA supports only 'none'`,
      'bias',
    );
  }
  const options = optionsIn<AdaloraConfig>(config, { ...PEFT_FIELDS, ...OWN_FIELDS }) as ReadOptions;
  if (!Number.isInteger(options.initR) || options.initR < 1) {
    throw new CheckpointError(`init_r is ${describe(options.initR)}; expected a whole number of at least 1`, 'init_r');
  }
  const { targetR = parseAdaloraConfig({}).targetR } = options;
  // PEFT accepts a target above the initial rank, from which ranks only fall.
  return { ...options, targetR: Math.min(targetR, options.initR), ...readPhases(config) };
}

/**
 * Returns PEFT's phases, counted from `total_step`. Without it, zero means "not set": the next run sets its own. What
 * this would not read back is in `phases` too, which PEFT does not have.
 */
function readPhases({ phases, tinit, tfinal, total_step: total }: AdapterFile['config']): Partial<AdaloraConfig> {
  if (phases != null) return optionsIn<AdaloraConfig>(phases as AdapterFile['config'], PHASES);
  const given = { tinit: (tinit ?? 0) as number, tfinal: (tfinal ?? 0) as number };
  const known = total !== undefined && total !== null && total !== leastTotal(given.tinit, given.tfinal);
  if (known) return { ...given, totalStep: total as number };
  return Object.fromEntries(Object.entries(given).filter(([, steps]) => steps !== 0));
}

/**
 * Limits `init_r`. Masked ranks come back as zeros that the file does not contain, so a small file could otherwise
 * allocate any amount of memory.
 * @throws CheckpointError when `init_r` is far larger than the ranks that the tensors hold.
 */
function assertFewMasked(held: readonly number[], initR: number): void {
  const kept = held.reduce((sum, ranks) => sum + ranks, 0);
  const most = Math.floor((MASKED_PER_KEPT * (kept + held.length)) / Math.max(1, held.length));
  if (initR <= most) return;
  throw new CheckpointError(
    `init_r is ${initR}; with the ${kept} ranks that the file's ${held.length} modules hold it can be at most ${most}`,
    'init_r',
  );
}

/**
 * Returns a module's A [in, k], B [k, out] and E [1, k], if it has one, among r ranks of which the others are masked,
 * with initial scores.
 */
function placed(
  path: string,
  own: HostTensors,
  ranks: readonly number[],
  { parsed, r }: { readonly parsed: AdaloraConfig; readonly r: number },
): HostTensors {
  const { loraA, loraB } = tensorsAt(own, 'loraA', 'loraB');
  const features = { inFeatures: loraA.shape[0] as number, outFeatures: loraB.shape[1] as number };
  const values = {
    ...initialScores(features, parsed, r),
    loraA: placeColumns(loraA, ranks, r), // [in, k] -> [in, r]
    loraB: placeRows(loraB, ranks, r), // [k, out] -> [r, out]
    ...(own.loraE && { loraE: { ...placeColumns(own.loraE, ranks, r), shape: [r] } }), // [1, k] -> [r]
    mask: maskOf(ranks, r),
  };
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [`${path}.${name}`, value]));
}

/**
 * Returns which of the `initR` ranks the file's `kept` ranks are: all of them, or those listed in `rank_pattern`.
 * @throws CheckpointError when the numbers differ.
 */
function keptRanks(
  config: AdapterFile['config'],
  key: string,
  { kept, initR }: { readonly kept: number; readonly initR: number },
): number[] {
  const table = config.rank_pattern as Readonly<Record<string, unknown>> | null | undefined;
  const pattern = table === null || table === undefined ? Array<boolean>(initR).fill(true) : table[key];
  if (!Array.isArray(pattern) || pattern.length !== initR || !pattern.every((keep) => typeof keep === 'boolean')) {
    throw new CheckpointError(
      `rank_pattern: '${key}' is ${describe(pattern)}; expected a list of ${initR} booleans`,
      key,
    );
  }
  const places = pattern.flatMap((keep, rank) => (keep ? [rank] : []));
  if (places.length === kept) return places;
  throw new CheckpointError(
    `'${key}' has ${kept} ranks in the tensors, but ${places.length} in ${table ? 'rank_pattern' : 'init_r'}: the files belong to different adapters`,
    key,
  );
}

/**
 * Reads PEFT's LORA as doublets. The greatest rank becomes `initR`; modules of lower rank are padded with masked zeros.
 * All modules get the first one's scaling, and B absorbs the difference of other scalings.
 * @throws CheckpointError that names the invalid tensor or field.
 */
function readDoublets(file: AdapterFile): { config: Partial<AdaloraConfig>; values: HostTensors } {
  const { targetModules, values: read, ...lora } = readLoraFile(file);
  const rankOf = (path: string): number => tensorAt(read, `${path}.loraA`).shape[1] as number;
  const scalingOf = (path: string): number => (patternValue(lora.alphaPattern, path) ?? lora.loraAlpha) / rankOf(path);
  const scaling = scalingOf(targetModules[0] as string);
  const initR = Math.max(...targetModules.map(rankOf));
  const config = { parametrization: 'lora', initR, targetR: initR, loraAlpha: scaling * initR } as const;
  const parsed = parseAdaloraConfig(config);
  const values = targetModules.map((path) => {
    const loraA = tensorAt(read, `${path}.loraA`); // [in, k]
    const loraB = scaled(tensorAt(read, `${path}.loraB`), scalingOf(path) / scaling); // [k, out]
    return placed(path, { loraA, loraB }, [...Array(rankOf(path)).keys()], { parsed, r: initR });
  });
  return { config: { ...config, targetModules }, values: Object.assign({}, ...values) as HostTensors };
}
