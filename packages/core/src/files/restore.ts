import { createAdapter } from '../adapter/attach.js';
import { isOfHead, isPretrained } from '../adapter/head.js';
import { allLayers, layersFitting, tensorKey, type Adapter } from '../adapter/peft-model.js';
import { warnOnce } from '../config.js';
import { CheckpointError } from '../errors.js';
import type { AdapterFile, PeftMethod } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import { tensorsAt, type HostTensors } from '../tensors.js';

/** What an adapter is made from again. */
export interface StoredAdapter {
  readonly name: string;
  readonly method: PeftMethod;
  /** The method's part, without the modules trained whole. */
  readonly file: AdapterFile;
  /** The modules trained whole: `<path>.weight` and `<path>.bias`, oriented as in the model. */
  readonly saved: HostTensors;
  /** Paths of these modules. */
  readonly savedPaths: readonly string[];
  /** Names of the classes; default: those of the model. */
  readonly labels?: readonly string[] | undefined;
  /** Where it comes from, for messages. */
  readonly source: string;
}

/**
 * The adapter that a file describes. Without a head of its own it gets the model's.
 * @throws CheckpointError naming the tensor or field at fault.
 */
export function restoreAdapter(model: Model, seed: number, stored: StoredAdapter): Adapter {
  const { method, file, saved, labels, source } = stored;
  const targetModules = modulesOf(file.tensors, model, source);
  const read = method.fromFile({ ...file, sites: model.sites });
  const modulesToSave = stored.savedPaths.filter((path) => !isOfHead(model, path));
  const config = method.parseConfig({
    ...(targetModules.length > 0 && { targetModules }),
    ...(modulesToSave.length > 0 && { modulesToSave }),
    ...read.config,
  });
  const created = createAdapter(model, { method, config }, { seed, adapterName: stored.name });
  const adapter = { ...created, ...(labels && { labels }), layers: layersFitting(created, read.values) };
  const missing = Object.keys(adapter.saved).filter(
    (path) => isOfHead(model, path) && !stored.savedPaths.includes(path),
  );
  const initial = initialHead(model, adapter, missing, source);
  return { ...adapter, values: fittingValues(adapter, { ...initial, ...read.values, ...saved }, source) };
}

/** The values, when they are just those of the adapter. @throws CheckpointError for a missing, unknown or mis-shaped one. */
export function fittingValues(adapter: Adapter, values: HostTensors, source: string): HostTensors {
  const expected = new Map(
    Object.values(allLayers(adapter)).flatMap((layer) =>
      Object.entries({ ...layer.params, ...layer.state }).map(
        ([name, spec]) => [tensorKey(layer, name), spec] as const,
      ),
    ),
  );
  const unknown = Object.keys(values).find((key) => !expected.has(key));
  if (unknown) throw new CheckpointError(`${source}: '${unknown}' belongs to no adapted module of this model`, unknown);
  const fitting: HostTensors = {};
  for (const [key, spec] of expected) {
    const { shape } = spec.initial;
    const value = values[key] ?? ('shared' in spec ? spec.initial : undefined);
    if (!value) throw new CheckpointError(`${source}: the tensor of '${key}' is missing`, key);
    if (value.shape.join() !== shape.join()) {
      throw new CheckpointError(
        `${source}: '${key}' has shape [${value.shape.join(', ')}], expected [${shape.join(', ')}]`,
        key,
      );
    }
    fitting[key] = value;
  }
  return fitting;
}

/**
 * The paths of the modules that a file has tensors of: whatever `target_modules` and `exclude_modules` say, these are adapted.
 * @throws CheckpointError when a tensor belongs to no module of the model.
 */
function modulesOf(tensors: HostTensors, { sites }: Model, source: string): string[] {
  const known = new Set(sites.map(({ path }) => path));
  const found = new Set<string>();
  for (const key of Object.keys(tensors)) {
    if (!key.includes('.')) continue; // shared by all modules
    let path = key;
    while (path !== '' && !known.has(path)) path = path.slice(0, Math.max(0, path.lastIndexOf('.')));
    if (path === '') throw new CheckpointError(`${source}: '${key}' belongs to no module of this model`, key);
    found.add(path);
  }
  return [...found];
}

/** The modules of the head that an adapter was saved without. */
function initialHead(
  model: Model,
  { saved, values }: Adapter,
  missing: readonly string[],
  source: string,
): HostTensors {
  const drawn = missing.filter((path) => !isPretrained(model, path));
  if (drawn.length > 0) {
    warnOnce(`${source} holds no '${drawn.join("', '")}' and the model came without a trained one: it is drawn anew`);
  }
  const layers = missing.flatMap((path) => saved[path] ?? []);
  return tensorsAt(
    values,
    ...layers.flatMap((layer) => Object.keys(layer.params).map((name) => tensorKey(layer, name))),
  );
}
