import { ConfigError, TargetModuleError } from '../errors.js';
import type {
  AdapterLayer,
  AdapterLayers,
  Calibration,
  ConfiguredMethod,
  FrozenModule,
  Init,
  PeftMethod,
} from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import type { Model } from '../contracts/model.js';
import { createRng, type Rng } from '../rng.js';
import { isNamed, selectSites, type TargetConfig, type TargetReport } from './targets.js';
import { hostTensor, hostZeros, sizeOf } from '../tensors.js';
import { fullModule } from './full-module.js';
import { allLayers, initialValues, peftModel, type Adapter, type PeftModel } from './peft-model.js';

/** How an adapter is put on a model. */
export interface AttachOptions {
  /** Seed of every initial value; the head's depend on nothing else, so that methods start from the same head. */
  readonly seed?: number;
  readonly adapterName?: string;
  /** What `calibrate` measured, for configurations whose initial values are computed from data. */
  readonly calibration?: Calibration;
}

/** Standard deviation of a new head's weights (BERT's `initializer_range`). */
const HEAD_STD = 0.02;

/**
 * Puts a method's adapter on a model. The model itself does not change.
 * @throws TargetModuleError when the configuration matches no module.
 * @throws ConfigError when `modulesToSave` names an unknown one, or a calibration is missing.
 */
export function attach<C extends TargetConfig>(
  model: Model,
  configured: ConfiguredMethod<C>,
  options: AttachOptions = {},
): PeftModel<C> {
  return peftModel(model, options.seed ?? 0, createAdapter(model, configured, options));
}

/** A method's adapter for a model, with its initial values. @throws what `attach` throws. */
export function createAdapter<C extends TargetConfig>(
  model: Model,
  { method, config }: ConfiguredMethod<C>,
  { seed = 0, adapterName = 'default', calibration }: AttachOptions = {},
): Adapter<C> {
  const rng = createRng(seed);
  const targets = adaptedSites(model, method, config);
  const layers = method.adapt(targets.matched, config, initFor(model, rng, calibration));
  const saved = savedModules(model, config, rng);
  const values = initialValues(allLayers({ layers, saved }));
  return { name: adapterName, method, config, targets, layers, saved, values };
}

function initFor(model: Model, rng: Rng, calibration: Calibration | undefined): Init {
  return {
    rng: rng.fork('adapter'),
    sites: model.sites.filter(({ path }) => path !== model.head),
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
 * The modules of a model that a method acts on with this configuration.
 * @throws TargetModuleError when the configuration matches none.
 */
export function adaptedSites<C extends TargetConfig>(model: Model, method: PeftMethod<C>, config: C): TargetReport {
  const { kinds } = method.capabilities;
  return selectSites(model.sites, config, { kinds, head: model.head, defaults: model.defaultTargetModules });
}

/** The frozen weight and bias of a module. @throws TargetModuleError when the model has none at `path`. */
export function frozenModule(model: Model, path: string): FrozenModule {
  const weight = model.weights[`${path}.weight`];
  const bias = model.weights[`${path}.bias`];
  if (!weight) throw new TargetModuleError(`${model.name} has no weight at '${path}'`, path);
  return bias ? { weight, bias } : { weight };
}

/** The head, and the modules of `modulesToSave`, trained whole. @throws ConfigError for an unknown one. */
export function savedModules(model: Model, config: TargetConfig, rng: Rng): AdapterLayers {
  const saved: Record<string, AdapterLayer> = {};
  for (const name of config.modulesToSave ?? []) {
    for (const site of sitesNamed(model, name)) {
      saved[site.path] = fullModule(site, frozenModule(model, site.path), 'head');
    }
  }
  const [head] = sitesNamed(model, model.head);
  if (head) saved[head.path] = fullModule(head, initialHead(model, head, rng), 'head');
  return saved;
}

function sitesNamed(model: Model, name: string): Site[] {
  const sites = model.sites.filter(({ path }) => isNamed(path, name));
  if (sites.length > 0) return sites;
  throw new ConfigError(`modulesToSave: ${model.name} has no module '${name}'`, 'modulesToSave');
}

/** The trained head of the checkpoint; else normal weights and a zero bias, from the seed and the head's path alone. */
function initialHead(model: Model, site: Site, rng: Rng): FrozenModule {
  const frozen = frozenModule(model, site.path);
  if (model.pretrainedHead) return frozen;
  const draw = rng.fork(site.path);
  const { shape } = frozen.weight;
  const values = Float32Array.from({ length: sizeOf(shape) }, () => HEAD_STD * draw.normal());
  const weight = hostTensor(values, shape);
  return site.hasBias ? { weight, bias: hostZeros([site.outFeatures]) } : { weight };
}
