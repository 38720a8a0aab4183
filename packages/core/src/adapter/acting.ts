import { UnsupportedError } from '../errors.js';
import type { AdapterLayer, AdapterLayers } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import type { HostTensors } from '../tensors.js';
import { frozenModule } from './attach.js';
import { besideOthers, chained, compositeValues, inOrder, partOf, routed, type Part } from './composite.js';
import { adapterNamed, tensorKey, type Adapter, type PeftModel } from './peft-model.js';

/** What runs when a model is asked for outputs: its weights, and the layers that act on them. */
export interface ActingParts {
  readonly model: Model;
  readonly layers: AdapterLayers;
  readonly values: HostTensors;
}

/**
 * Returns the parts of a model that act as it stands: a plain model has no layers, and neither has one whose adapters are disabled.
 * What is merged is in the weights; where nothing is, the model is `peft.model` itself. The modules trained whole are those of the first
 * active adapter. As long as the active adapters are the same objects, so are the layers, but for those that stand for several.
 * @throws ConfigError when two active adapters take the place of one module.
 */
export function actingParts(peft: PeftModel | Model): ActingParts {
  if (!('adapters' in peft)) return { model: peft, layers: {}, values: {} };
  if (!peft.enabled) return { model: peft.model, layers: {}, values: {} };
  const model =
    peft.merged.length === 0
      ? peft.model
      : { ...peft.model, weights: { ...peft.model.weights, ...peft.mergedWeights } };
  const active = peft.active.map((name) => adapterNamed(peft, name));
  const layers = active.filter(({ name }) => !peft.merged.includes(name)).flatMap(partsOf('layers'));
  const saved = active.slice(0, 1).flatMap(partsOf('saved'));
  const isAlone =
    peft.merged.length === 0 && (active.length === 1 || !layers.some(({ layer }) => sharesTensors(layer)));
  return { model, ...byModule([...saved, ...layers], (parts) => combined(peft.model, parts, isAlone)) };
}

/**
 * The parts of adapters by which each row of a mixed batch goes its own way.
 * @throws UnsupportedError when one of them acts on what all rows share.
 */
export function mixedParts({ model }: PeftModel, adapters: readonly Adapter[]): ActingParts {
  const parts = adapters.flatMap((adapter) => [...partsOf('layers')(adapter), ...partsOf('saved')(adapter)]);
  return {
    model,
    ...byModule(parts, (own) => {
      assertOfRows(own);
      const beside = own.map((part) => besideOthers(part, frozenModule(model, part.layer.site.path)));
      return { layer: routed(beside), values: compositeValues(beside) };
    }),
  };
}

function assertOfRows(parts: readonly Part[]): void {
  const site = parts.map(({ layer }) => layer.site).find(({ readsShared }) => readsShared);
  if (!site) return;
  throw new UnsupportedError(
    `'${site.path}' reads what the rows of a batch share: they cannot go by different adapters there; predict with one at a time`,
    site.path,
  );
}

function partsOf(kind: 'layers' | 'saved'): (adapter: Adapter) => Part[] {
  return (adapter) => Object.values(adapter[kind]).map((layer) => partOf(adapter, layer));
}

/** A layer and its values, by `<path>.<name>`. */
interface Acting {
  readonly layer: AdapterLayer;
  readonly values: HostTensors;
}

/** Two adapters may call what their layers share by one name. */
function sharesTensors({ state = {} }: AdapterLayer): boolean {
  return Object.values(state).some(({ shared }) => shared !== undefined);
}

/**
 * One part acts as it is; several, or one that is not alone because of what other adapters merged into its weight or call as it
 * does, act one after the other.
 */
function combined(model: Model, parts: readonly Part[], isAlone: boolean): Acting {
  const [only, ...others] = parts as readonly [Part, ...Part[]];
  if (others.length === 0 && isAlone) {
    const { layer, values } = only;
    const entries = Object.entries(values).map(([name, value]) => [tensorKey(layer, name), value] as const);
    return { layer, values: Object.fromEntries(entries) };
  }
  const frozen = frozenModule(model, only.layer.site.path);
  const beside = inOrder(parts).map((part) => besideOthers(part, frozen));
  return { layer: chained(beside), values: compositeValues(beside) };
}

function byModule(parts: readonly Part[], act: (parts: readonly Part[]) => Acting): Omit<ActingParts, 'model'> {
  const modules = new Map<string, Part[]>();
  for (const part of parts) {
    const { path } = part.layer.site;
    modules.set(path, [...(modules.get(path) ?? []), part]);
  }
  const acting = [...modules].map(([path, own]) => [path, act(own)] as const);
  return {
    layers: Object.fromEntries(acting.map(([path, { layer }]) => [path, layer])),
    values: Object.assign({}, ...acting.map(([, { values }]) => values)) as HostTensors,
  };
}
