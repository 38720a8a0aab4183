import { ShapeError } from '../errors.js';
import type { AdapterLayer, AdapterLayers, FrozenModule, ParamSpec } from '../contracts/layer.js';
import type { Init } from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import { floats, sizeOf, tensorAt } from '../tensors.js';

/** Completes a layer that stores all of its parameters, whatever their values. */
export function fixedLayer(layer: Omit<AdapterLayer, 'counted' | 'storedParameters'>): AdapterLayer {
  const stored = Object.values(layer.params).reduce((sum, { initial }) => sum + sizeOf(initial.shape), 0);
  return { ...layer, counted: [], storedParameters: () => stored };
}

/** Makes a layer that trains a module of any kind in full: for the head, `modulesToSave` and full fine-tuning. */
export function fullLayer(site: Site, initial: FrozenModule, group: string): AdapterLayer {
  const params: Record<string, ParamSpec> = {
    weight: { initial: initial.weight, trainable: true, group, decay: site.kind !== 'layerNorm' },
  };
  if (initial.bias) params.bias = { initial: initial.bias, trainable: true, group, decay: false };
  return fixedLayer({
    site,
    params,
    replacesModule: true,
    ignoresBase: true,
    forward: (_x, p, at) => at.run({ weight: tensorAt(p, 'weight'), ...(p.bias && { bias: p.bias }) }),
    deltaWeight(values, { weight }) {
      const frozen = floats(weight);
      return floats(tensorAt(values, 'weight')).map((value, index) => value - (frozen[index] as number));
    },
    ...(initial.bias && { mergedBias: (values) => tensorAt(values, 'bias') }),
  });
}

/** Makes a layer that trains only a module's bias. @throws ShapeError when it has none. */
export function biasLayer(
  site: Site,
  { bias }: FrozenModule,
  group: string,
  spec: Partial<ParamSpec> = {},
): AdapterLayer {
  if (!bias) throw new ShapeError(`'${site.path}' has no bias to train`, site.path);
  return fixedLayer({
    site,
    params: { bias: { initial: bias, trainable: true, group, decay: false, ...spec } },
    ignoresBase: true,
    forward: (_x, p, at) => at.run({ bias: tensorAt(p, 'bias') }),
    mergedBias: (values) => tensorAt(values, 'bias'),
  });
}

/** Returns a layer for the bias of every module that is neither adapted nor trained in full. */
export function biasLayers(
  adapted: AdapterLayers,
  { sites, frozen }: Init,
  spec: Partial<ParamSpec> = {},
): AdapterLayers {
  const others = sites.filter(({ path, hasBias }) => hasBias && !(path in adapted));
  const layers = others.map((site) => biasLayer(site, frozen(site.path), 'default', spec));
  return layersByPath(layers);
}

/** Returns layers by the paths of their modules. */
export function layersByPath(layers: readonly AdapterLayer[]): AdapterLayers {
  return Object.fromEntries(layers.map((layer) => [layer.site.path, layer]));
}
