import { assertKnownOptions } from '../config.js';
import { ConfigError, nearestPaths, TargetModuleError } from '../errors.js';
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
import type { Model } from '../contracts/model.js';
import { hostTensor, hostZeros, mapValues, sizeOf } from '../tensors.js';
import { createRng, type Rng } from '../rng.js';
import { baseParameters } from './accounting.js';
import { assertWithinModules, assertWithinBase } from './budget.js';
import { isTrainedWhole, reportTargets, selectSites, type TargetReport } from './targets.js';
import { fullModule } from './layers.js';
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
  reportTargets(targets, model.sites, { strict });
  const whole = savedModules(model, config, rng, trainHead);
  const saved = Object.fromEntries(Object.entries(whole).filter(([path]) => !ofHead.includes(path)));
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
  return selectSites(sites, config, { kinds, head: whole.map(({ path }) => path), defaults });
}

/** The frozen weight and bias of a module. @throws TargetModuleError when the model has none at `path`. */
export function frozenModule(model: Model, path: string): FrozenModule {
  const weight = model.weights[`${path}.weight`];
  const bias = model.weights[`${path}.bias`];
  if (!weight) throw new TargetModuleError(`${model.name} has no weight at '${path}'`, path);
  return bias ? { weight, bias } : { weight };
}

/** The head, and the modules of `modulesToSave`, trained whole; a head that is not trained is only kept. @throws ConfigError for an unknown one. */
export function savedModules(model: Model, config: TargetConfig, rng: Rng, trainHead = true): AdapterLayers {
  const names = config.modulesToSave ?? [];
  const unknown = names.find((name) => !model.sites.some(({ path }) => isTrainedWhole(path, name)));
  if (unknown !== undefined) {
    const paths = model.sites.map(({ path }) => path);
    throw new ConfigError(
      `modulesToSave: ${model.name} has no module '${unknown}'; the nearest are ${nearestPaths(paths, [unknown]).join(', ')}`,
      'modulesToSave',
    );
  }
  const saved: Record<string, AdapterLayer> = {};
  for (const site of model.sites) {
    const isHead = isOfHead(model, site.path);
    if (!isHead && !names.some((name) => isTrainedWhole(site.path, name))) continue;
    const initial = isHead ? initialHead(model, site, rng) : frozenModule(model, site.path);
    const layer = fullModule(site, initial, 'head');
    saved[site.path] = isHead && !trainHead ? untrained(layer) : layer;
  }
  return saved;
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
