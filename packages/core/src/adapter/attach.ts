import * as v from 'valibot';
import { assertArgument, parseOptions } from '../config.js';
import { ConfigError, nearestPaths, TargetModuleError, UnsupportedError } from '../errors.js';
import type { AdapterLayer, AdapterLayers, FrozenModule } from '../contracts/layer.js';
import type {
  Calibration,
  CallableMethod,
  ConfiguredMethod,
  Init,
  PeftMethod,
  TargetConfig,
} from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import { aCalibration, aCalledMethod, aModel, anInteger, aText } from '../kinds.js';
import { allSites, type Model } from '../contracts/model.js';
import { hostTensor, hostZeros, mapValues, transposed, type HostTensor, type HostTensors } from '../tensors.js';
import { printedModel } from '../printed.js';
import { createRng, type Rng } from '../rng.js';
import { baseParameters } from './accounting.js';
import { assertWithinModules, assertWithinBase } from '../ranks/budget.js';
import { normalValues } from '../ranks/factors.js';
import { EVERY_MODULE, isModuleToSave, reportTargets, selectSites, type TargetReport } from './targets.js';
import { fullLayer } from './layers.js';
import { tokenLayers } from './token-rows.js';
import { isInHead, isPretrained, outputMeaning } from '../head.js';
import { allLayers, BASE, initialValues, peftModel, type Adapter, type PeftModel } from './peft-model.js';

/** How to add an adapter to a model. */
export interface AttachOptions {
  /**
   * The seed of all initial values. Head values depend only on it, so that all methods start from the same head.
   * Default 0.
   */
  readonly seed?: number;
  /** The adapter's name and its folder when saved; 'default' is saved in the root. Default 'default'. */
  readonly adapterName?: string;
  /**
   * Whether to reject names in `targetModules`, `excludeModules` and tables by module that match nothing. Default: warn
   * once.
   */
  readonly strict?: boolean;
  /**
   * Whether the head is trained. False keeps its initial values, to measure what the adapter does alone. Default true.
   */
  readonly trainHead?: boolean;
  /** The result of `calibrate`, for configurations whose initial values are computed from data. */
  readonly calibration?: Calibration;
}

const entries = {
  seed: v.optional(anInteger, 0),
  adapterName: v.optional(aText, 'default'),
  strict: v.optional(v.boolean(), false),
  trainHead: v.optional(v.boolean(), true),
  calibration: v.optional(aCalibration),
} satisfies Record<keyof AttachOptions, unknown>;

/** Standard deviation of a new head's weights (BERT's `initializer_range`). */
const HEAD_STD = 0.02;

/**
 * Returns a new model with a method's adapter on the given one, which is not changed.
 * @throws TargetModuleError when the configuration matches no module, or, in strict mode, when one of its names matches
 * none.
 * @throws ConfigError for an unknown option, a budget larger than the modules can hold, an unknown module in
 * `modulesToSave`, a module named in two ways, a calibration that is missing or of no use, or a name that is no valid
 * folder name.
 * @throws UnsupportedError for `ensureWeightTying` with a table or tied head in `targetModules`.
 */
export function attach<M extends ConfiguredMethod>(
  model: Model,
  configured: M,
  options: AttachOptions = {},
): PeftModel<M['config']> {
  const adapter = newAdapter(model, configured as ConfiguredMethod<M['config']>, options);
  return printedModel(peftModel(model, options.seed ?? 0, adapter));
}

/** Creates an untrained adapter from a user's configuration. @throws the errors of `attach`. */
export function newAdapter<C extends TargetConfig>(
  model: Model,
  configured: ConfiguredMethod<C>,
  options: AttachOptions = {},
): Adapter<C> {
  assertArgument('model', model, aModel);
  assertArgument('configured', configured, aCalledMethod);
  const { config, method }: ConfiguredMethod = configured;
  if ('budget' in config && typeof config.budget === 'number') {
    assertWithinModules(adaptedSites(model, method, config).matched, config.budget);
    assertWithinBase(config.budget, baseParameters(model));
  }
  return createAdapter(model, configured, options);
}

/**
 * Creates a method's adapter for a model, with its initial values.
 * @param ofHead modules of the head that are adapted instead of trained in full. In PEFT only the head's last module is
 * trained in full.
 * @throws the errors of `attach`.
 */
export function createAdapter<C extends TargetConfig>(
  model: Model,
  { method, config }: ConfiguredMethod<C>,
  options: AttachOptions = {},
  ofHead: readonly string[] = [],
): Adapter<C> {
  const { seed, adapterName, strict, trainHead, calibration } = parseOptions('attach', entries, options);
  assertAdapterName(adapterName);
  const rng = createRng(seed);
  const targets = adaptedSites(model, method, config, ofHead);
  reportTargets(targets, allSites(model), { strict });
  const whole = savedModules(model, config, rng, trainHead);
  const tokens = tokenLayers(model, config, (path) => frozenModule(model, path));
  assertApart(model, { targets: targets.matched, whole, tokens }, config);
  const kept = Object.fromEntries(Object.entries(whole).filter(([path]) => !ofHead.includes(path)));
  const saved = { ...kept, ...tokens };
  if (calibration && !method.calibration?.(config)) {
    throw new ConfigError(`${method.name}: this configuration needs no calibration`, 'calibration');
  }
  const layers = method.adapt(targets.matched, config, initFor(model, saved, rng, calibration));
  const values = initialValues(allLayers({ layers, saved }));
  return { name: adapterName, method, config, targets, layers, saved, values, ...outputMeaning(model) };
}

/** Names of files that are saved beside the folders of adapters, and of the folder of a save under way. */
const OF_FILES = /\.(json|md|safetensors)$|^\.peftjs-save/i;

/** Checks that a name can be a folder name: each adapter is saved in a folder of its name. */
function assertAdapterName(name: string): void {
  if (/^[^/\\]+$/.test(name) && !['.', '..', BASE].includes(name) && !OF_FILES.test(name)) return;
  throw new ConfigError(
    `adapterName is '${name}'; expected a valid folder name other than ${BASE}, not one of a file (.json, .md, .safetensors)`,
    'adapterName',
  );
}

function initFor(model: Model, saved: AdapterLayers, rng: Rng, calibration: Calibration | undefined): Init {
  return {
    rng: rng.fork('adapter'),
    sites: model.sites.filter(({ path }) => !(path in saved)),
    frozen: (path) => frozenModule(model, path),
    calibrated(kind, path) {
      const value = calibration?.kind === kind ? calibration.values[path] : undefined;
      if (!value) {
        throw new ConfigError(
          `the initial values of '${path}' are computed from ${kind}; attach with { calibration: await calibrate(..) }`,
          'calibration',
        );
      }
      const [inFeatures, outFeatures] = frozenModule(model, path).weight.shape;
      const expected = [inFeatures, kind === 'activations' ? inFeatures : outFeatures];
      if (value.shape.join() === expected.join()) return value;
      throw new ConfigError(
        `the calibration has [${value.shape.join(', ')}] for '${path}', expected [${expected.join(', ')}]: calibrate this model`,
        'calibration',
      );
    },
  };
}

/**
 * Returns the modules of a model that a method adapts with this configuration.
 * @param ofHead as for `createAdapter`
 * @throws TargetModuleError when the configuration matches none.
 */
export function adaptedSites<C extends TargetConfig>(
  model: Model,
  method: PeftMethod<C>,
  config: C,
  ofHead: readonly string[] = [],
): TargetReport {
  const { kinds } = method.capabilities;
  const { sites, defaultTargetModules: defaults } = model;
  const whole = sites.filter(({ path }) => isInHead(model, path) && !ofHead.includes(path));
  // A pattern for all modules names none, so it does not untie a tied head from its table.
  const offered = config.targetModules === EVERY_MODULE ? sites : allSites(model);
  return selectSites(offered, config, { kinds, head: whole.map(({ path }) => path), defaults });
}

/**
 * Checks that no module is changed in two ways, nor a table and its tied head.
 * @throws ConfigError if one is.
 * @throws UnsupportedError for `ensureWeightTying` with a table or tied head in `targetModules`.
 */
function assertApart(
  model: Model,
  { targets, whole, tokens }: { targets: readonly Site[]; whole: AdapterLayers; tokens: AdapterLayers },
  { ensureWeightTying = false }: TargetConfig,
): void {
  const isChanged = (path: string): boolean => path in whole || targets.some((site) => site.path === path);
  for (const [path, { tiedForward }] of Object.entries(tokens)) {
    const heads = tiedForward ? (model.tied ?? []).filter(({ table }) => table === path) : [];
    const both = [path, ...heads.map(({ site }) => site.path)].find(isChanged);
    if (both === undefined) continue;
    throw new ConfigError(
      `'${both}' is changed by trainableTokenIndices and by targetModules or modulesToSave: name it in one of them`,
      'trainableTokenIndices',
    );
  }
  const tied = (model.tied ?? []).flatMap(({ site, table }) => [site.path, table]);
  const target = ensureWeightTying ? targets.find(({ path }) => tied.includes(path)) : undefined;
  if (target === undefined) return;
  throw new UnsupportedError(
    `ensureWeightTying with '${target.path}' in targetModules would change the table and the head together, which is not supported`,
    'ensureWeightTying',
  );
}

/** Returns the frozen weight and bias of a module. @throws TargetModuleError when the model has none at `path`. */
export function frozenModule(model: Model, path: string): FrozenModule {
  const weight = model.weights[`${path}.weight`] ?? tiedWeight(model, path);
  const bias = model.weights[`${path}.bias`];
  if (!weight) throw new TargetModuleError(`${model.name} has no weight at '${path}'`, path);
  return bias ? { weight, bias } : { weight };
}

/** Returns the change of a module's weight, of its shape; undefined for a layer that does not compute it. */
export function deltaOf(model: Model, layer: AdapterLayer, values: HostTensors): HostTensor | undefined {
  if (!layer.deltaWeight) return undefined;
  const frozen = frozenModule(model, layer.site.path);
  return hostTensor(layer.deltaWeight(values, frozen), frozen.weight.shape);
}

/** Returns the weight of a module tied to a table; undefined where the model has no such module at `path`. */
function tiedWeight({ tied = [], weights }: Model, path: string): HostTensor | undefined {
  const table = weights[`${tied.find(({ site }) => site.path === path)?.table}.weight`];
  return table && transposed(table);
}

/**
 * Creates layers for the modules trained in full: the head and those of `modulesToSave`. With `trainHead` false the
 * head is saved but not trained. @throws ConfigError for an unknown module.
 */
export function savedModules(model: Model, config: TargetConfig, rng: Rng, trainHead = true): AdapterLayers {
  const names = config.modulesToSave ?? [];
  const sites = allSites(model);
  const unknown = names.find((name) => !sites.some(({ path }) => isModuleToSave(path, name)));
  if (unknown !== undefined) {
    const paths = sites.map(({ path }) => path);
    throw new ConfigError(
      `modulesToSave: ${model.name} has no module '${unknown}'; the nearest are ${nearestPaths(paths, [unknown]).join(', ')}`,
      'modulesToSave',
    );
  }
  const saved: Record<string, AdapterLayer> = {};
  for (const site of sites) {
    const isHead = isInHead(model, site.path);
    if (!isHead && !names.some((name) => isModuleToSave(site.path, name))) continue;
    const initial = isHead ? initialHead(model, site, rng) : frozenModule(model, site.path);
    const layer = fullLayer(site, initial, 'head');
    saved[site.path] = isHead && !trainHead ? untrained(layer) : layer;
  }
  return withTied(model, saved, config);
}

/** Handles trained tables with tied heads: both are trained as one, or the other one stays frozen. */
function withTied(model: Model, saved: AdapterLayers, { ensureWeightTying = false }: TargetConfig): AdapterLayers {
  let layers = saved;
  for (const { site, table } of model.tied ?? []) {
    const { [site.path]: ofHead, ...others } = layers;
    const own = others[table];
    if (ensureWeightTying && (own ?? ofHead)) {
      const words = model.sites.find(({ path }) => path === table) as Site;
      layers = { ...others, [table]: own ?? fullLayer(words, frozenModule(model, table), 'head') };
    } else if (own) layers = { ...layers, [table]: { ...own, replacesModule: false } };
  }
  return layers;
}

function untrained(layer: AdapterLayer): AdapterLayer {
  return { ...layer, params: mapValues(layer.params, (spec) => ({ ...spec, trainable: false })) };
}

/**
 * Returns the checkpoint's trained head; otherwise normal weights and a zero bias that depend only on the seed and the
 * head's path. A norm starts as the model has it: new ones leave numbers as they are.
 */
function initialHead(model: Model, site: Site, rng: Rng): FrozenModule {
  const frozen = frozenModule(model, site.path);
  if (isPretrained(model, site.path) || site.kind === 'layerNorm') return frozen;
  const weight = normalValues(rng.fork(site.path), frozen.weight.shape, HEAD_STD);
  return site.hasBias ? { weight, bias: hostZeros([site.outFeatures]) } : { weight };
}

/**
 * Makes a method from its definition. For every method, `fitBudget` then rejects budgets larger than the modules can
 * hold.
 */
export function defineMethod<C extends TargetConfig, O = Partial<C>>(given: PeftMethod<C>): CallableMethod<C, O> {
  const fitBudget = given.fitBudget?.bind(given);
  const definition: PeftMethod<C> = fitBudget
    ? {
        ...given,
        fitBudget(sites, budget, config, matchOn) {
          assertWithinModules(sites, budget);
          return fitBudget(sites, budget, config, matchOn);
        },
      }
    : given;
  const call = (options?: O): ConfiguredMethod<C> => ({ method, config: definition.parseConfig(options ?? {}) });
  const method = Object.defineProperties(call, Object.getOwnPropertyDescriptors(definition)) as typeof call &
    PeftMethod<C>;
  return method;
}
