import { ConfigError, TargetModuleError } from '../errors.js';
import type {
  AdapterLayer,
  AdapterLayers,
  ConfiguredMethod,
  FrozenModule,
  Init,
  PeftMethod,
} from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import type { Model } from '../contracts/model.js';
import { createRng, type Rng } from '../rng.js';
import { isNamed, selectSites, type TargetConfig, type TargetReport } from './targets.js';
import { hostTensor, hostZeros, sizeOf, type HostTensor } from '../tensors.js';
import { fullModule } from './full-module.js';
import { allLayers, initialValues, type Adapter, type PeftModel } from './peft-model.js';

/** How an adapter is put on a model. */
export interface AttachOptions {
  /** Seed of every initial value; the head's depend on nothing else, so that methods start from the same head. */
  readonly seed?: number;
  readonly adapterName?: string;
}

/** Standard deviation of a new head's weights (BERT's `initializer_range`). */
const HEAD_STD = 0.02;

/**
 * Puts a method's adapter on a model. The model itself does not change.
 * @throws TargetModuleError when the configuration matches no module.
 * @throws ConfigError when `modulesToSave` names an unknown one.
 */
export function attach<C extends TargetConfig>(
  model: Model,
  { method, config }: ConfiguredMethod<C>,
  { seed = 0, adapterName = 'default' }: AttachOptions = {},
): PeftModel<C> {
  const rng = createRng(seed);
  const targets = adaptedSites(model, method, config);
  const init: Init = { rng: rng.fork('adapter'), frozen: (path) => frozenModule(model, path) };
  const layers = method.adapt(targets.matched, config, init);
  const saved = savedModules(model, config, rng);
  const values = initialValues(allLayers({ layers, saved }));
  const adapter: Adapter<C> = { name: adapterName, method, config, layers, saved, values };
  return { model, adapter, targets, seed };
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

function savedModules(model: Model, config: TargetConfig, rng: Rng): AdapterLayers {
  const saved: Record<string, AdapterLayer> = {};
  for (const name of config.modulesToSave ?? []) {
    const site = linearSite(model, name);
    saved[site.path] = fullModule(site, frozenModule(model, site.path), 'head');
  }
  const head = linearSite(model, model.head);
  saved[head.path] = fullModule(head, newHead(model, head, rng), 'head');
  return saved;
}

function linearSite(model: Model, name: string): Site {
  const site = model.sites.find(({ path }) => isNamed(path, name));
  if (site?.kind === 'linear') return site;
  throw new ConfigError(
    `modulesToSave: ${model.name} has no linear module '${name}'${site ? ` (it is of kind ${site.kind})` : ''}`,
    'modulesToSave',
  );
}

/** Normal weights and a zero bias, from the seed and the head's path alone. */
function newHead(model: Model, site: Site, rng: Rng): FrozenModule {
  const draw = rng.fork(site.path);
  const { shape } = frozenModule(model, site.path).weight;
  const normal = (): HostTensor =>
    hostTensor(
      Float32Array.from({ length: sizeOf(shape) }, () => HEAD_STD * draw.normal()),
      shape,
    );
  return site.hasBias ? { weight: normal(), bias: hostZeros([site.outFeatures]) } : { weight: normal() };
}
