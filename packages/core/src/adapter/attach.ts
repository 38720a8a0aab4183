import { assertKnownOptions } from '../config.js';
import { ConfigError, nearestPaths, TargetModuleError, UnsupportedError } from '../errors.js';
import type {
  AdapterLayer,
  AdapterLayers,
  Calibration,
  CallableMethod,
  ConfiguredMethod,
  FrozenModule,
  Init,
  PeftMethod,
  TargetConfig,
} from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import { allSites, type Model } from '../contracts/model.js';
import { hostTensor, hostZeros, mapValues, sizeOf, transposed, type HostTensor } from '../tensors.js';
import { createRng, type Rng } from '../rng.js';
import { baseParameters } from './accounting.js';
import { assertWithinModules, assertWithinBase } from './budget.js';
import { isTrainedWhole, reportTargets, selectSites, type TargetReport } from './targets.js';
import { fullModule } from './layers.js';
import { tokenLayers } from './token-rows.js';
import { isOfHead, isPretrained, meaningOf } from '../head.js';
import { allLayers, BASE, initialValues, peftModel, type Adapter, type PeftModel } from './peft-model.js';

/** How an adapter is put on a model. */
export interface AttachOptions {
  /** Seed of every initial value; the head's depend on nothing else, so that methods start from the same head. */
  readonly seed?: number;
  /** Also the folder that it is saved in, but for 'default', which is saved in the root. Default 'default'. */
  readonly adapterName?: string;
  /** Refuse names that match nothing, in `targetModules`, `excludeModules` and tables by module. Default: warn once. */
  readonly strict?: boolean;
  /** Whether the head is trained with the adapter, or stays as it starts: a control of what the adapter does alone. Default true. */
  readonly trainHead?: boolean;
  /** What `calibrate` measured, for configurations whose initial values are computed from data. */
  readonly calibration?: Calibration;
}

const OPTIONS = ['seed', 'adapterName', 'strict', 'trainHead', 'calibration'] satisfies (keyof AttachOptions)[];

/** Standard deviation of a new head's weights (BERT's `initializer_range`). */
const HEAD_STD = 0.02;

/**
 * Returns a new model with a method's adapter on the one given, which stays as it is.
 * @throws TargetModuleError when the configuration matches no module; in strict mode also when one of its names matches none.
 * @throws ConfigError for an unknown option, a budget that the modules cannot hold, or when `modulesToSave` names an unknown one, a calibration is missing, or the name is no folder name.
 */
export function attach<C extends TargetConfig>(
  model: Model,
  configured: ConfiguredMethod<C>,
  options: AttachOptions = {},
): PeftModel<C> {
  return peftModel(model, options.seed ?? 0, newAdapter(model, configured, options));
}

/** An untrained adapter of a user's configuration. @throws what `attach` throws. */
export function newAdapter<C extends TargetConfig>(
  model: Model,
  configured: ConfiguredMethod<C>,
  options: AttachOptions = {},
): Adapter<C> {
  const { config, method }: ConfiguredMethod = configured;
  if ('budget' in config && typeof config.budget === 'number') {
    assertWithinModules(adaptedSites(model, method, config).matched, config.budget);
    assertWithinBase(config.budget, baseParameters(model));
  }
  return createAdapter(model, configured, options);
}

/**
 * A method's adapter for a model, with its initial values.
 * @param ofHead modules of the head that are adapted instead of trained whole: PEFT has no such head, but for the last of its modules
 * @throws what `attach` throws.
 */
export function createAdapter<C extends TargetConfig>(
  model: Model,
  { method, config }: ConfiguredMethod<C>,
  options: AttachOptions = {},
  ofHead: readonly string[] = [],
): Adapter<C> {
  assertKnownOptions('attach', options, OPTIONS);
  const { seed = 0, adapterName = 'default', strict = false, trainHead = true, calibration } = options;
  assertAdapterName(adapterName);
  const rng = createRng(seed);
  const targets = adaptedSites(model, method, config, ofHead);
  reportTargets(targets, allSites(model), { strict });
  const whole = savedModules(model, config, rng, trainHead);
  const tokens = tokenLayers(model, config, (path) => frozenModule(model, path));
  assertApart(model, { targets: targets.matched, whole, tokens }, config);
  const kept = Object.fromEntries(Object.entries(whole).filter(([path]) => !ofHead.includes(path)));
  const saved = { ...kept, ...tokens };
  const layers = method.adapt(targets.matched, config, initFor(model, saved, rng, calibration));
  const values = initialValues(allLayers({ layers, saved }));
  return { name: adapterName, method, config, targets, layers, saved, values, ...meaningOf(model) };
}

/** An adapter is saved in a folder of its name, so that a name must be one and no path. */
function assertAdapterName(name: string): void {
  if (/^[^/\\]+$/.test(name) && !['.', '..', BASE].includes(name)) return;
  throw new ConfigError(
    `adapterName is '${name}'; expected a name that a folder can have, and not ${BASE}`,
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
      if (value) return value;
      throw new ConfigError(
        `the initial values of '${path}' are computed from ${kind}; attach with { calibration: await calibrate(..) }`,
        'calibration',
      );
    },
  };
}

/**
 * Returns the modules of a model that a method acts on with this configuration.
 * @param ofHead as `createAdapter` takes it
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
  const whole = sites.filter(({ path }) => isOfHead(model, path) && !ofHead.includes(path));
  const offered = config.targetModules === EVERY_MODULE ? sites : allSites(model);
  return selectSites(offered, config, { kinds, head: whole.map(({ path }) => path), defaults });
}

/** A pattern that names nothing: it does not take a head apart from the table that it has for a weight. */
const EVERY_MODULE = '.*';

/** @throws ConfigError for a module, or a table and the head that has it for a weight, that is changed in two ways at once. */
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

/** The frozen weight and bias of a module. @throws TargetModuleError when the model has none at `path`. */
export function frozenModule(model: Model, path: string): FrozenModule {
  const weight = model.weights[`${path}.weight`] ?? tiedWeight(model, path);
  const bias = model.weights[`${path}.bias`];
  if (!weight) throw new TargetModuleError(`${model.name} has no weight at '${path}'`, path);
  return bias ? { weight, bias } : { weight };
}

/** The weight of a module that has another's; undefined where the model has no such module at `path`. */
function tiedWeight({ tied = [], weights }: Model, path: string): HostTensor | undefined {
  const table = weights[`${tied.find(({ site }) => site.path === path)?.table}.weight`];
  return table && transposed(table);
}

/** The head, and the modules of `modulesToSave`, trained whole; a head that is not trained is only kept. @throws ConfigError for an unknown one. */
export function savedModules(model: Model, config: TargetConfig, rng: Rng, trainHead = true): AdapterLayers {
  const names = config.modulesToSave ?? [];
  const sites = allSites(model);
  const unknown = names.find((name) => !sites.some(({ path }) => isTrainedWhole(path, name)));
  if (unknown !== undefined) {
    const paths = sites.map(({ path }) => path);
    throw new ConfigError(
      `modulesToSave: ${model.name} has no module '${unknown}'; the nearest are ${nearestPaths(paths, [unknown]).join(', ')}`,
      'modulesToSave',
    );
  }
  const saved: Record<string, AdapterLayer> = {};
  for (const site of sites) {
    const isHead = isOfHead(model, site.path);
    if (!isHead && !names.some((name) => isTrainedWhole(site.path, name))) continue;
    const initial = isHead ? initialHead(model, site, rng) : frozenModule(model, site.path);
    const layer = fullModule(site, initial, 'head');
    saved[site.path] = isHead && !trainHead ? untrained(layer) : layer;
  }
  return withTied(model, saved, config);
}

/** Tables and the heads that have them for a weight: both are trained as one, or each by itself beside the frozen other. */
function withTied(model: Model, saved: AdapterLayers, { ensureWeightTying = false }: TargetConfig): AdapterLayers {
  let layers = saved;
  for (const { site, table } of model.tied ?? []) {
    const { [site.path]: ofHead, ...others } = layers;
    const own = others[table];
    if (ensureWeightTying && (own ?? ofHead)) {
      const words = model.sites.find(({ path }) => path === table) as Site;
      layers = { ...others, [table]: own ?? fullModule(words, frozenModule(model, table), 'head') };
    } else if (own) layers = { ...layers, [table]: { ...own, replacesModule: false } };
  }
  return layers;
}

function untrained(layer: AdapterLayer): AdapterLayer {
  return { ...layer, params: mapValues(layer.params, (spec) => ({ ...spec, trainable: false })) };
}

/** The trained head of the checkpoint; else normal weights and a zero bias, from the seed and the head's path alone. */
function initialHead(model: Model, site: Site, rng: Rng): FrozenModule {
  const frozen = frozenModule(model, site.path);
  if (isPretrained(model, site.path)) return frozen;
  const draw = rng.fork(site.path);
  const { shape } = frozen.weight;
  const values = Float32Array.from({ length: sizeOf(shape) }, () => HEAD_STD * draw.normal());
  const weight = hostTensor(values, shape);
  return site.hasBias ? { weight, bias: hostZeros([site.outFeatures]) } : { weight };
}

/** Makes a method from its definition. Its `fitBudget` refuses what the modules cannot hold, whatever the method. */
export function defineMethod<C extends TargetConfig>(given: PeftMethod<C>): CallableMethod<C> {
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
  const call = (options: Partial<C> = {}): ConfiguredMethod<C> => ({ method, config: definition.parseConfig(options) });
  const method = Object.defineProperties(call, Object.getOwnPropertyDescriptors(definition)) as typeof call &
    PeftMethod<C>;
  return method;
}
